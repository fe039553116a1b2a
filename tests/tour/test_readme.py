"""README shows what is there: its picture is the shipped topology's, its example runs, its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.ports import RecallProblem, Recollection
from pipeline.engine.asking import Handlers
from pipeline.engine.drive import Driver
from pipeline.loading import load_topology
from pipeline.main import VERBS, aiops
from tests.tour.small_world import NOON, said
from topology.moments import to_us
from topology.payloads import PatternMatched
from topology.picture import mermaid

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The one block of code in a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def my_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as README asks for: the agent's file, and a copy of the shipped topology with one more entry."""
    (tmp_path / "restart_loops.py").write_text(block("python"))
    shipped = (ROOT / "topology" / "incident_loop.yaml").read_text(encoding="utf-8")
    before, under, after = shipped.partition("\nstages:\n")
    assert under
    (tmp_path / "my_loop.yaml").write_text(before + under + block("yaml") + after)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "restart_loops", raising=False)
    return tmp_path / "my_loop.yaml"


def test_the_picture_is_the_shipped_topologys() -> None:
    assert block("mermaid") == mermaid(load_topology()), "put `aiops topology graph` into README.md"


def test_the_example_fits_the_shipped_topology(my_loop: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("aiops"), "topology", "check", my_loop.name],
        cwd=my_loop.parent,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "my_loop.yaml: 0 errors, 0 warnings or notes\n"), done.stderr


def test_the_examples_test_passes(my_loop: Path) -> None:
    before, begin, rest = README.partition("    tests:\n      - name:")
    example = textwrap.dedent((begin + rest).partition("\n\n")[0])
    my_loop.with_name("my_loop.test.yaml").write_text(example)

    result = CliRunner().invoke(aiops, ["topology", "test", str(my_loop)])

    assert before
    assert result.stdout.splitlines()[-1].endswith("my_loop.test.yaml: 1 passed, 0 failed"), result.output


async def nothing_known(question: RecallProblem) -> Recollection:
    return Recollection()


async def test_the_example_notices_a_restart_loop_and_an_incident_comes_of_it(my_loop: Path) -> None:
    handlers: Handlers = {RecallProblem: nothing_known}
    driver = Driver(load_topology(my_loop), handlers, start_us=to_us(NOON))

    await driver.play("intake", [said("server started", seconds=minute * 60) for minute in range(5)])
    await driver.play("intake", [said("server started", service="calm", seconds=300)])
    await driver.advance_to(to_us(NOON + timedelta(minutes=6)))

    found = [event.payload for event in await driver.events("findings") if isinstance(event.payload, PatternMatched)]
    assert [finding.summary for finding in found] == [
        "shop started 4 times in 10 minutes",
        "shop started 5 times in 10 minutes",
    ]
    opened = [event for event in await driver.events("incidents") if event.event_type == "incident.opened"]
    assert len(opened) == 1
    assert await driver.events("dead-letters") == []


def test_every_verb_is_explained() -> None:
    assert [verb for verb in VERBS if f"`aiops {verb}" not in README and f"`{verb} " not in README] == []


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(r"`([\w./-]+\.(?:md|yml|yaml|py)|tests/tour)`", README)) - {
        "my_loop.yaml",
        "restart_loops.py",
    }

    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
