"""``aiops topology``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.loading import load_topology
from tests.pipeline.commands.calling import call, call_json
from topology.describe import describe
from topology.picture import as_data, dot, mermaid
from topology.registry import registered

BROKEN = """\
name: broken
streams:
  intake: {carries: [MetricSampled, LogWriten], key: service}
  findings: {carries: [AnomalyDetected], key: system}
stages:
  - id: normalize
    agent: agents.monitor.normalise:Normalize
    consumes: intake
    emits: finding
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    return file


def test_nothing_is_wrong_with_the_topology_that_ships() -> None:
    result = call("topology", "check")

    assert (result.exit_code, result.stdout) == (0, "incident_loop.yaml: 0 errors, 0 warnings or notes\n")


def test_every_defect_is_shown_with_its_line_and_the_way_out(broken: Path) -> None:
    result = call("topology", "check", broken)

    assert result.exit_code == 78
    assert f"{broken}:3: error: streams.intake.carries[1]: found" in result.stdout
    assert "did you mean LogWritten?" in result.stdout
    assert f"{broken}:7: error:" in result.stdout
    assert f"{broken}:9: error:" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"{broken}: 3 errors")


def test_a_program_gets_the_same_defects(broken: Path) -> None:
    result = call("topology", "check", broken, "--json")

    assert result.exit_code == 78
    assert '"line":3' in result.stdout
    assert result.stdout.count('"remedy"') == 3


NARROWED = """\
name: narrowed
streams:
  intake: {carries: [MetricSampled, LogWritten, AlertFired, AlertResolved, ChangeApplied, HeartbeatSeen], key: service}
  signals: {carries: [MetricSampled, LogWritten, AlertFired, AlertResolved, ChangeApplied, HeartbeatSeen], key: service}
stages:
  - id: normalize
    agent: agents.monitor.normalize:Normalize
    consumes:
      - {stream: intake, types: [LogWritten], where: "payload.level >= 'error'", lag_max: 9, when_full: shed}
    emits: signals
"""


def test_what_an_input_lets_through_is_described_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "narrowed.yaml"
    file.write_text(NARROWED)

    assert "LogWritten where payload.level >= 'error'" in call("topology", "describe", file).stdout
    [stage] = call_json("topology", "describe", file, "--json")["stages"]
    assert (stage["consumes"], stage["takes"]) == (["intake"], ["log.written"])
    assert stage["edges"]["intake"] == {
        "takes": {"log.written": ["payload.level >= 'error'"]},
        "lag_max": 9,
        "when_full": "shed",
        "shed_first": None,
        "shed_last": None,
    }

    file.write_text(NARROWED.replace("payload.level", "payload.levle"))
    result = call("topology", "check", file)
    assert result.exit_code == 78
    assert f"{file}:9: error: stages[0].consumes[0].where: found `payload.levle`" in result.stdout
    assert "did you mean level?" in result.stdout


def test_what_is_no_yaml_is_a_defect_too(tmp_path: Path) -> None:
    file = tmp_path / "no.yaml"
    file.write_text("name: [")

    result = call("topology", "check", file)

    assert result.exit_code == 78
    assert f"{file}:" in result.stdout


def test_a_topology_is_described_in_the_form_asked_for() -> None:
    shipped = load_topology()

    assert call("topology", "describe").stdout == describe(shipped)
    described = call_json("topology", "describe", "--json")
    assert described["streams"]["signals"]["key"] == "service"
    assert described["streams"]["signals"]["ticks"] == "1s"
    [remediate] = [stage for stage in described["stages"] if stage["id"] == "remediate"]
    assert remediate["consumes"] == ["plans"]
    assert remediate["emits"] == {"action.finished": "actions", "action.started": "actions"}


def test_the_picture_is_drawn_in_the_form_asked_for() -> None:
    shipped = load_topology()

    assert call("topology", "graph").stdout == mermaid(shipped)
    assert call("topology", "graph", "--format", "dot").stdout == dot(shipped)
    assert call_json("topology", "graph", "--format", "json") == as_data(shipped)
    assert call_json("topology", "graph", "--json") == as_data(shipped)


def test_the_schemas_are_those_of_the_file_of_its_tests_and_of_every_event() -> None:
    schema = call_json("topology", "schema")
    events = call_json("topology", "schema", "--events")

    assert schema["title"] == "Topology"
    assert len(schema["$defs"]["StageSpec"]["allOf"]) == 15
    assert set(call_json("topology", "schema", "--tests")["properties"]) == {"starts", "answers", "tests"}
    assert set(events) == {payload.event_type for payload in registered()}


def test_an_agent_beside_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_agent.py").write_text(
        "from topology import Agent\n"
        "from topology.payloads import AnomalyDetected, MetricSampled\n"
        "class Mine(Agent[MetricSampled, AnomalyDetected]): ...\n"
    )
    mine = BROKEN.replace(", LogWriten", "").replace("agents.monitor.normalise:Normalize", "my_own_agent:Mine")
    (tmp_path / "mine.yaml").write_text(mine.replace("emits: finding", "emits: findings"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # given back afterwards, with what the command appends

    assert call("topology", "check", "mine.yaml").exit_code == 0
