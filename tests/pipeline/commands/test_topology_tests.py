"""``aiops topology test``."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from tests.pipeline.commands.calling import call, call_json

SHIPPED = Path(__file__).parents[3] / "topology"


@pytest.fixture
def my_loop(tmp_path: Path) -> Path:
    """A copy of the shipped topology with the first of its tests, which expects that nothing is found."""
    shutil.copy(SHIPPED / "incident_loop.yaml", tmp_path / "my_loop.yaml")
    text = (SHIPPED / "incident_loop.test.yaml").read_text(encoding="utf-8")
    (tmp_path / "my_loop.test.yaml").write_text(text.partition("\n  - name: a crash")[0] + "\n")
    return tmp_path / "my_loop.yaml"


def test_the_topology_that_ships_passes_its_tests() -> None:
    result = call("topology", "test")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("incident_loop.test.yaml: 5 passed, 0 failed")


def test_the_tests_of_a_topology_are_found_beside_it(my_loop: Path) -> None:
    result = call_json("topology", "test", my_loop, "--json")

    assert (result["tests"], result["passed"]) == (str(my_loop.with_name("my_loop.test.yaml")), 1)


def test_a_changed_topology_is_shown_to_do_something_else(my_loop: Path) -> None:
    strict = my_loop.read_text(encoding="utf-8").replace(
        "HealthDetector\n", "HealthDetector\n    config: {latency_ms_max: 5}\n"
    )
    my_loop.write_text(strict)
    tests = my_loop.with_name("my_loop.test.yaml")

    result = call("topology", "test", my_loop)

    assert result.exit_code == 1
    assert "FAILED  a healthy service leads to nothing" in result.stdout
    assert f"{tests}:14: tests[0].expect[1]: found 1 of 1 events on 'findings', expected none\n" in result.stdout
    assert "AnomalyDetected at 3s: {'service': 'ledger', 'system': 'ledger', 'kind': 'latency.high'" in result.stdout
    assert result.stdout.splitlines()[-1] == f"{tests}: 0 passed, 1 failed"

    as_json = call("topology", "test", my_loop, "--json")
    assert as_json.exit_code == 1
    [played] = orjson.loads(as_json.stdout)["results"]
    assert [failure["line"] for failure in played["failures"][-2:]] == [14, 15]
    assert "the question ExecuteAction" in played["failures"][0]["found"]


def test_one_file_of_tests_is_played_on_another_topology(my_loop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    shutil.copy(my_loop, other)

    assert call("topology", "test", other).exit_code == 78  # it has none of its own
    assert call("topology", "test", other, "--tests", tmp_path / "my_loop.test.yaml").exit_code == 0


def test_what_is_wrong_with_the_tests_is_bad_configuration(my_loop: Path) -> None:
    tests = my_loop.with_name("my_loop.test.yaml")
    tests.write_text(tests.read_text(encoding="utf-8").replace("stream: findings", "stream: finding"))

    result = call("topology", "test", my_loop)

    assert result.exit_code == 78
    assert f"{tests}:14: error: tests[0].expect[1].stream: found something expected on 'finding'" in result.output
    assert "did you mean findings?" in result.output
