"""What is scaffolded for any two types of the shipped topology can be loaded, fits, and passes its tests."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pipeline.loading import load_agent, load_topology, read_text
from pipeline.rehearsal import Rehearsal
from topology.check import check
from topology.errors import UsageError
from topology.event import Payload
from topology.graph import Stream
from topology.parse import parse
from topology.resolve import resolve
from topology.scaffold import Scaffold
from topology.yaml_append import with_item

SHIPPED = load_topology()
ROOT = Path(__file__).parents[2]

Carried = tuple[Stream, type[Payload]]
TYPES: list[Carried] = [
    (stream, payload)
    for stream in SHIPPED.streams.values()
    for payload in sorted(stream.carries, key=lambda each: each.__name__)
]
INTAKE, FINDINGS = SHIPPED.streams["intake"], SHIPPED.streams["findings"]
LINE, ANOMALY = [(stream, kind) for stream, kind in TYPES if (stream.name, kind.__name__) in {("intake", "LogWritten"), ("findings", "AnomalyDetected")}]  # fmt: skip
PAIRS = [
    *((takes, ANOMALY) for takes in TYPES if takes != ANOMALY),
    *((LINE, gives) for gives in TYPES if gives != LINE),
]

NESTED = {"IncidentOpened", "IncidentUpdated", "IncidentResolved", "PlanProposed", "ActionStarted", "ActionFinished", "OutcomeVerified", "ExperienceRecorded"}  # fmt: skip
"""They hold other models, which are made up as data but not as Python."""


def _name(pair: tuple[Carried, Carried]) -> str:
    return "-".join(f"{stream.name}.{payload.__name__}" for stream, payload in pair)


def _scaffold(takes: Carried, gives: Carried, stage: str = "new-one") -> Scaffold:
    return Scaffold(stage, takes[0], takes[1], gives[0], gives[1])


@pytest.mark.parametrize("pair", PAIRS, ids=_name)
async def test_it_passes_its_tests_at_once(pair: tuple[Carried, Carried]) -> None:
    wanted = _scaffold(*pair)
    if wanted.gives.__name__ in NESTED:
        with pytest.raises(UsageError, match="cannot make up the field"):
            wanted.agent_source()
        return
    namespace: dict[str, Any] = {"__name__": "new_one"}
    exec(compile(wanted.agent_source(), "new_one.py", "exec"), namespace)  # noqa: S102

    def load(name: str) -> object:
        return namespace[name.partition(":")[2]] if name.startswith("new_one:") else load_agent(name)

    declared = parse(with_item(read_text(), "stages", wanted.stage_entry()))
    assert [str(defect) for defect in check(declared, load) if defect.severity != "info"] == []
    tests = "\n".join(f"  {line}" for line in chain.from_iterable(map(str.splitlines, wanted.tests())))
    rehearsal = Rehearsal(resolve(declared, load), f"tests:\n{tests}\n", "new.test.yaml")
    assert [(await rehearsal.play(number)).failures for number in range(len(rehearsal))] == [(), ()]


@pytest.mark.parametrize(
    ("stage", "module", "agent"),
    [
        ("restart-loops", "restart_loops", "RestartLoops"),
        ("a.b-c1", "a_b_c1", "ABC1"),
        ("class", "class_", "Class"),
        ("count", "count", "CountAgent"),
        ("log-written", "log_written", "LogWrittenAgent"),
    ],
)
def test_names_follow_from_the_stages(stage: str, module: str, agent: str) -> None:
    wanted = _scaffold(LINE, ANOMALY, stage)

    assert (wanted.module, wanted.agent) == (module, agent)
    assert f"class {agent}(Agent[LogWritten, AnomalyDetected]):" in wanted.agent_source()


def test_a_stage_called_like_a_value_of_yaml_keeps_its_name() -> None:
    declared = parse(with_item(read_text(), "stages", _scaffold(LINE, ANOMALY, "on").stage_entry()))

    assert declared.spec.stages[-1].id == "on"


def test_a_stage_that_would_feed_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="would read the AnomalyDetected it writes"):
        _scaffold(ANOMALY, ANOMALY)


def test_the_agent_is_written_as_ours_are(tmp_path: Path) -> None:
    module = tmp_path / "new_one.py"
    module.write_text(_scaffold(LINE, ANOMALY).agent_source())

    for check_style in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check_style, "--config", ROOT / "pyproject.toml", module],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
