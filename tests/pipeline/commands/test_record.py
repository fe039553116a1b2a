"""``aiops record``: everything streams said, out of the archive and the mesh, with the answers of the world."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import orjson
import pytest
import zstandard

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.archive.folder import Archive
from pipeline.engine.attempt import answer_key
from pipeline.engine.drive import Driver
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import Offset, Output
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.loading import load_topology
from pipeline.recordings.reader import Recording
from pipeline.settings import settings
from tests.contracts.counting import Echo, line
from tests.pipeline.archive.archiving import history, janitor_of, outputs
from tests.pipeline.commands.calling import call, call_json, start
from tests.pipeline.recordings.recorded import Told, told
from topology.codec import encode
from topology.moments import text_of_us
from topology.payloads.operation import AnswerRecorded

TOPOLOGY = """
name: recorded
streams:
  signals: {carries: [MetricSampled, LogWritten], partitions: 2, archive: true}
  findings: {carries: [AnomalyDetected], partitions: 2}
stages:
  - {id: ask-world, agent: "tests.contracts.counting:AskWorld", consumes: signals, emits: findings}
"""
IN_MEMORY = """
name: chained
streams:
  signals: {carries: [MetricSampled, LogWritten], partitions: 2}
  findings: {carries: [AnomalyDetected], partitions: 2, stored: false}
  numbered: {carries: [AnomalyDetected], partitions: 2}
stages:
  - {id: count-windows, agent: "tests.contracts.counting:CountWindows", consumes: signals, emits: findings, on_poison: skip}
  - {id: forward, agent: "tests.contracts.counting:Forward", consumes: findings, emits: numbered, on_poison: skip}
"""
STRANGE = b'{"id":"1","timestamp":"2026-01-01T00:00:00Z","event_type":"dream.dreamt","payload":{}}'

pytestmark = pytest.mark.servers


@dataclass(frozen=True)
class Deployed:
    """A deployment that has said something, and everything it said, in order."""

    file: Path
    said: list[Told]


@pytest.fixture
def deployed(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("AIOPS_ARCHIVE_DIR", str(tmp_path / "archive"))
    file = tmp_path / "recorded.yaml"
    file.write_text(TOPOLOGY)
    return Deployed(file, asyncio.run(_live(file, redis_url)))


async def _live(file: Path, url: str) -> list[Told]:
    """Samples are archived and trimmed; lines are asked about, and one signal is of an unknown type."""
    graph = load_topology(file)
    signals = graph.streams["signals"]
    mesh = RedisMesh.connect(url, settings().namespace)
    archive = Archive(settings().archive_folder)
    driver = Driver(graph, {ExecuteAction: Echo()}, mesh=mesh)
    await mesh.publish(outputs(signals, range(10)))
    await driver.run_until_idle()
    assert await janitor_of(mesh, archive, graph).sweep() > 0
    await driver.publish("signals", [line(number, f"s{number}", number) for number in range(6)])
    await mesh.publish([Output("signals", 0, "s1", "dream.dreamt", "00000000-0000-4000-8000-000000000000", STRANGE)])
    await driver.run_until_idle()
    streams = [*graph.streams.values(), *OPERATION_STREAMS]
    said = [each for stream in streams for each in await history(mesh, archive, stream)]
    await mesh.close()
    return sorted(told(said), key=lambda each: each[:3])


def test_all_that_was_said_is_in_it_once_and_in_order_whether_archived_or_not(
    deployed: Deployed, tmp_path: Path
) -> None:
    out = tmp_path / "all.recording"
    result = call("record", "--out", out, "--topology", deployed.file)
    assert result.exit_code == 0, result.output
    recording = Recording(out)
    assert told(recording.records()) == deployed.said
    assert {each[1] for each in deployed.said} == {"signals", "findings", "answers"}
    assert "1 event of the unknown type 'dream.dreamt' kept" in result.stderr
    assert f"{len(deployed.said)} events" in result.stdout
    [part] = recording.header.parts
    assert part.topology == "recorded"
    assert recording.header.streams["signals"].partitions == 2


def test_the_answers_of_the_world_are_in_it_whatever_else_is_asked_for(deployed: Deployed, tmp_path: Path) -> None:
    out = tmp_path / "some.recording"
    asked = ["--streams", "signals", "--where", "payload.metric == 'm'"]
    assert len([each for each in deployed.said if each[1] == "answers"]) == 6
    report = call_json("record", "--out", out, "--topology", deployed.file, *asked, "--json")
    answers = [each for each in deployed.said if each[4] == AnswerRecorded.event_type]
    assert report["counts"] == {"answers": len(answers), "signals": 11}
    assert report["unknown"] == {"dream.dreamt": 1}
    found = told(Recording(out).records())
    assert [each for each in found if each[1] == "answers"] == answers
    assert all(each[4] in ("metric.sampled", "dream.dreamt") for each in found if each[1] == "signals")


async def test_what_a_stage_concluded_can_be_derived_again_from_it_and_nobody_is_asked(
    deployed: Deployed, tmp_path: Path
) -> None:
    out = tmp_path / "all.recording"
    done = await asyncio.to_thread(start, "record", "--out", out, "--topology", deployed.file)
    assert done.returncode == 0, done.stderr
    records = [record for record in Recording(out).records() if record.event_type != "dream.dreamt"]
    told_before = {
        record.event.payload.question.partition("/")[2]: record.event.payload.answer
        for record in records
        if isinstance(record.event.payload, AnswerRecorded)
    }

    async def recorded(question: ExecuteAction) -> ExecutionReport:
        answer = told_before[answer_key(UUID(int=0), question).partition("/")[2]]
        return ExecutionReport.model_validate(answer)

    replay = Driver(load_topology(deployed.file), {ExecuteAction: recorded})
    await replay.publish("signals", [record.event for record in records if record.stream == "signals"])
    await replay.run_until_idle()
    for stream in ("findings", "answers"):
        concluded = {encode(event) for event in await replay.events(stream)}
        assert concluded == {record.value for record in records if record.stream == stream}
        assert concluded


@pytest.mark.parametrize("as_time", [False, True])
def test_it_begins_and_ends_where_it_is_told(deployed: Deployed, tmp_path: Path, as_time: bool) -> None:
    out = tmp_path / "part.recording"
    begin, end = deployed.said[5][0], deployed.said[-5][0]
    if as_time:
        begin, end = Offset(begin.ms, 0), Offset(end.ms + 1, 0)
    moments = [text_of_us(each.ms * 1000) if as_time else str(each) for each in (begin, end)]
    call_json("record", "--out", out, "--topology", deployed.file, "--from", moments[0], "--to", moments[1], "--json")
    assert told(Recording(out).records()) == [each for each in deployed.said if begin <= each[0] < end]


def test_a_stream_that_lies_nowhere_is_not_in_it(deployed: Deployed, tmp_path: Path) -> None:
    deployed.file.write_text(IN_MEMORY)
    assert call("record", "--out", tmp_path / "a", "--topology", deployed.file).exit_code == 0
    assert {"signals", "numbered"} < set(Recording(tmp_path / "a").header.streams)
    assert "findings" not in Recording(tmp_path / "a").header.streams
    asked = call("record", "--out", tmp_path / "b", "--topology", deployed.file, "--streams", "findings")
    assert asked.exit_code == 2


def test_what_was_masked_at_the_door_is_masked_in_it(redis_url: str, tmp_path: Path) -> None:
    alert = {"labels": {"alertname": "Down", "service": "web"}, "status": "firing", "startsAt": "2026-03-01T12:00:00Z"}
    alert["annotations"] = {"summary": "write to jane@example.com"}
    environment = {"REDIS_URL": redis_url, "AIOPS_ARCHIVE_DIR": str(tmp_path / "archive")}
    body = tmp_path / "alerts.json"
    body.write_bytes(orjson.dumps({"version": "4", "status": "firing", "alerts": [alert]}))
    assert start("ingest", "alertmanager", body, "--publish", environment=environment).returncode == 0
    done = start("record", "--out", tmp_path / "a.recording", "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["counts"]["intake"] == 1
    with zstandard.open(tmp_path / "a.recording", "rt") as file:
        written = file.read()
    assert "[masked:email]" in written
    assert "jane@" not in written


def test_a_file_that_is_there_is_replaced_only_when_somebody_says_so(deployed: Deployed, tmp_path: Path) -> None:
    out = tmp_path / "all.recording"
    out.write_text("precious")
    result = call("record", "--out", out, "--topology", deployed.file)
    assert (result.exit_code, out.read_text()) == (2, "precious")
    assert "--force" in result.stderr
    assert call("record", "--out", out, "--topology", deployed.file, "--force").exit_code == 0
    assert told(Recording(out).records()) == deployed.said


def test_a_server_that_is_away_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    result = call("record", "--out", tmp_path / "a.recording")
    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_is_named_and_what_is_left_can_be_recorded(deployed: Deployed, tmp_path: Path) -> None:
    archive = Archive(settings().archive_folder)
    span = archive.spans(("signals", 0))[0]
    lost, damaged = archive.header(("signals", 0), span).count, archive.path_of(("signals", 0), span)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    out = tmp_path / "a.recording"
    result = call("record", "--out", out, "--topology", deployed.file)
    assert (result.exit_code, out.exists()) == (1, False)
    assert str(damaged) in result.stderr
    assert call("record", "--out", out, "--topology", deployed.file, "--salvage").exit_code == 0
    assert len(told(Recording(out).records())) == len(deployed.said) - lost


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--streams", "signals,sgnals"], "found --streams with sgnals, expected some of"),
        (["--from", "yesterday"], "expected a time such as 2026-03-01T12:00"),
        (["--from", "1h", "--to", "2h"], "expected the first to be earlier"),
        (["--to", "2999-01-01T00:00Z"], "yet to come"),
        (["--where", "payload.nobody == 1"], "--where: found"),
    ],
)
def test_what_makes_no_sense_is_refused(deployed: Deployed, tmp_path: Path, options: list[str], said: str) -> None:
    result = call("record", "--out", tmp_path / "a", "--topology", deployed.file, *options)
    assert result.exit_code == 2
    assert said in result.stderr
