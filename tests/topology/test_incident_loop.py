"""The topology that ships: it fits together, and its pictures show it as it is."""

from __future__ import annotations

from importlib import import_module, resources
from pathlib import Path
from typing import Any

import pytest

from topology.check import check
from topology.describe import describe
from topology.graph import Topology
from topology.parse import ParsedTopology, parse
from topology.picture import mermaid
from topology.resolve import resolve

SHOWN = Path(__file__).parent / "shown"


def _load(name: str) -> Any:
    module, _, class_name = name.partition(":")
    return getattr(import_module(module), class_name)


@pytest.fixture(scope="module")
def parsed() -> ParsedTopology:
    return parse(resources.files("topology").joinpath("incident_loop.yaml").read_text("utf-8"), "incident_loop.yaml")


@pytest.fixture(scope="module")
def topology(parsed: ParsedTopology) -> Topology:
    return resolve(parsed, _load)


def test_nothing_is_wrong_with_it(parsed: ParsedTopology) -> None:
    assert [str(defect) for defect in check(parsed, _load)] == []


def test_only_the_patient_may_be_repaired_without_asking(parsed: ParsedTopology) -> None:
    assert {name for name, system in parsed.spec.systems.items() if system.autonomy == "auto"} == {"ledger"}


def test_behind_the_signals_everything_is_keyed_by_system_and_co_partitioned(topology: Topology) -> None:
    behind = {name: stream for name, stream in topology.streams.items() if name not in ("intake", "signals")}

    assert {stream.spec.key for stream in behind.values()} == {"system"}
    assert len({stream.partitions for stream in behind.values()}) == 1


def test_every_solution_names_a_kind_of_symptom_and_has_a_cost(parsed: ParsedTopology) -> None:
    assert all(solution.kinds != ("*",) and solution.cost > 0 for solution in parsed.spec.solutions)


@pytest.mark.parametrize("show", [describe, mermaid], ids=["text", "mermaid"])
def test_it_is_shown_as_the_kept_picture_shows_it(topology: Topology, show: Any, tmp_path: Path) -> None:
    kept = SHOWN / f"incident_loop.{'txt' if show is describe else 'mmd'}"
    now = tmp_path / kept.name
    now.write_text(show(topology), "utf-8")

    assert now.read_text("utf-8") == kept.read_text("utf-8"), f"if the change is meant: cp {now} {kept}"


def test_showing_it_twice_shows_the_same(parsed: ParsedTopology, topology: Topology) -> None:
    again = resolve(parsed, _load)

    assert describe(again) == describe(topology)
    assert mermaid(again) == mermaid(topology)
