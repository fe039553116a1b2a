"""``aiops topology new``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.commands.calling import call, start


def test_a_new_stage_is_there_fits_and_passes_its_tests_at_once(tmp_path: Path) -> None:
    new = "topology", "new", "stage"
    made = start(*new, "restart-loops", "--takes", "LogWritten", "--gives", "PatternMatched", cwd=tmp_path)
    again = start(*new, "slow-plans", "--consumes", "plans", "--emits", "findings", "--json", cwd=tmp_path)

    assert (made.returncode, again.returncode) == (0, 0), made.stderr + again.stderr
    assert made.stdout.splitlines()[-1] == "Now: aiops topology check my_loop.yaml; aiops topology test my_loop.yaml"
    assert again.stdout == (
        '{"stage":"slow-plans","agent":"slow_plans.py","topology":"my_loop.yaml","tests":"my_loop.test.yaml"}\n'
    )
    checked = start("topology", "check", "my_loop.yaml", cwd=tmp_path)
    tested = start("topology", "test", "my_loop.yaml", cwd=tmp_path)
    assert (checked.returncode, checked.stdout.splitlines()[-1][:22]) == (0, "my_loop.yaml: 0 errors"), checked.stdout
    assert (tested.returncode, tested.stdout.splitlines()[-1]) == (0, "my_loop.test.yaml: 4 passed, 0 failed")


def test_the_tests_fail_when_the_agent_does_something_else(tmp_path: Path) -> None:
    assert start("topology", "new", "stage", "restart-loops", cwd=tmp_path).returncode == 0
    agent = tmp_path / "restart_loops.py"
    agent.write_text(agent.read_text(encoding="utf-8").replace("> self.config", ">= self.config"))

    failed = start("topology", "test", "my_loop.yaml", cwd=tmp_path)
    assert failed.returncode == 1
    assert "found 1 of 1 AnomalyDetected on 'findings', expected none" in failed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Restart"], "found 'Restart', expected lower-case letters"),
        (["correlate"], "found a stage 'correlate' in my_loop.yaml already"),
        (["json"], "there is a module 'json' already"),
        (["mine", "--consumes", "signal"], "found no stored stream 'signal' in incident-loop, expected one of"),
        (["mine", "--takes", "LogWriten"], "did you mean LogWritten?"),
        (["mine", "--emits", "incidents"], "cannot make up the field 'symptoms' of IncidentOpened"),
        (["mine", "--consumes", "findings"], "would read the AnomalyDetected it writes"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # given back afterwards, with what the command appends

    result = call("topology", "new", "stage", *arguments)

    assert result.exit_code == 2, result.output
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tests", ["tests: [", "tests: []", "other: 1"])
def test_tests_that_are_broken_get_no_more(tests: str, tmp_path: Path) -> None:
    (tmp_path / "my_loop.test.yaml").write_text(tests)

    result = start("topology", "new", "stage", "mine", cwd=tmp_path)

    assert result.returncode == 78, result.stderr
    assert "my_loop.test.yaml:1: error:" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["my_loop.test.yaml"]


def test_where_one_file_cannot_be_written_none_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "gone" / "my_loop.yaml"

    result = start("topology", "new", "stage", "mine", "--topology", str(elsewhere), cwd=tmp_path)

    assert (result.returncode, list(tmp_path.iterdir())) == (78, [])
    assert f"cannot write {elsewhere}: No such file or directory; nothing was written" in result.stderr


def test_a_topology_is_as_it_was_when_its_tests_cannot_be_written(tmp_path: Path) -> None:
    topology = tmp_path / "my_loop.yaml"
    shipped = Path(__file__).parents[3] / "topology" / "incident_loop.yaml"
    topology.write_bytes(shipped.read_bytes())
    (tmp_path / "my_loop.test.yaml").symlink_to(tmp_path / "gone" / "tests.yaml")

    assert start("topology", "new", "stage", "mine", cwd=tmp_path).returncode == 78
    assert topology.read_bytes() == shipped.read_bytes()
    assert not (tmp_path / "mine.py").exists()


def test_a_broken_topology_gets_no_stage(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [")

    result = start("topology", "new", "stage", "mine", "--topology", "broken.yaml", cwd=tmp_path)

    assert result.returncode == 78
    assert not (tmp_path / "mine.py").exists()
