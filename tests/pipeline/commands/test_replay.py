"""``aiops replay``: a recording through a topology, as it was or another one, without a server."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import Offset, Output, Record, output_for
from pipeline.loading import load_topology
from pipeline.recordings.header import Header
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import new_recording
from pipeline.replay.answers import RecordedAnswers
from pipeline.replay.player import Replay
from pipeline.replay.timetable import Timetable
from tests.contracts.counting import Echo, line, sample
from tests.pipeline.commands.calling import call, call_json
from tests.pipeline.recordings.recorded import PART, read
from topology.event import Event
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads.signals import HeartbeatSeen

TOPOLOGY = """
name: replayed
streams:
  signals: {carries: [MetricSampled, LogWritten], partitions: 2, ticks: 5s}
  findings: {carries: [AnomalyDetected], partitions: 2, ticks: 5s}
  numbered: {carries: [AnomalyDetected], partitions: 2}
stages:
  - {id: count, agent: "tests.contracts.counting:CountWindows", consumes: signals, emits: findings}
  - {id: ask, agent: "tests.contracts.counting:AskWorld", consumes: signals, emits: findings, on_poison: skip}
  - {id: forward, agent: "tests.contracts.counting:Forward", consumes: findings, emits: numbered}
"""
START_US = 1_800_000_000_000_000
SECONDS = 60
DREAM = b'{"id":"1","timestamp":"2026-01-01T00:00:00Z","event_type":"dream.dreamt","payload":{}}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "replayed.yaml"
    path.write_text(TOPOLOGY)
    return path


@pytest.fixture
def recording(file: Path, tmp_path: Path) -> Path:
    return asyncio.run(_recorded(load_topology(file), tmp_path / "recording"))


def test_the_same_topology_says_the_same_at_the_same_places(recording: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"

    report = call_json("replay", recording, "--topology", file, "--out", out, "--json")

    assert report["as_recorded"] is True
    assert report["conclusions"] == {"again": len(read(out)) - sum(report["fed"].values()), "different": 0, "missing": 0, "new": 0}  # fmt: skip
    assert read(out) == read(recording)
    assert report["stages"]["count"]["read"] == report["stages"]["ask"]["read"] == 2 * SECONDS + 2
    assert report["stages"]["count"]["late"] == 1
    assert report["answers"] == {"recorded": SECONDS, "missing": []}
    assert report["unknown"] == {"dream.dreamt": 1}


def test_people_see_what_each_stage_did(recording: Path, file: Path) -> None:
    result = call("replay", recording, "--topology", file)

    assert result.exit_code == 0, result.output
    assert "through replayed" in result.stdout
    assert " 0 missing, 0 new" in result.stdout
    assert "60 questions answered as recorded" in result.stdout


def test_what_a_changed_topology_concludes_otherwise_is_counted(recording: Path, file: Path, tmp_path: Path) -> None:
    file.write_text(TOPOLOGY.replace("emits: findings}", "emits: findings, lateness: 20s}", 1))
    out = tmp_path / "changed"

    report = call_json("replay", recording, "--topology", file, "--out", out, "--json")

    assert report["as_recorded"] is False
    assert report["conclusions"]["again"] > 0
    assert report["conclusions"]["missing"] > 0
    assert report["stages"]["count"]["late"] == 0, "what came late now comes in time"
    assert len(read(out)) > 0


def test_a_question_without_a_recorded_answer_is_told_and_its_event_is_a_dead_letter(
    recording: Path, file: Path, tmp_path: Path
) -> None:
    without = tmp_path / "without"
    found = Recording(recording)
    header = found.header.model_copy(
        update={"streams": {n: s for n, s in found.header.streams.items() if n != "answers"}}
    )
    with new_recording(without, header) as writer:
        for record in found.records():
            if record.stream != "answers":
                writer.add(record)

    report = call_json("replay", without, "--topology", file, "--json")

    assert report["answers"] == {
        "recorded": 0,
        "missing": [{"stage": "ask", "question": "ExecuteAction", "count": SECONDS}],
    }
    assert report["stages"]["ask"]["dead_letters"] == SECONDS
    told = call("replay", without, "--topology", file).stdout
    assert "ExecuteAction of ask, 60 times: the recording has none" in told


def test_a_question_that_nobody_could_answer_fails_again_as_it_did(file: Path, tmp_path: Path) -> None:
    graph = load_topology(file)
    recording = asyncio.run(_recorded(graph, tmp_path / "failed", asked=False))

    report = call_json("replay", recording, "--topology", file, "--out", tmp_path / "out", "--json")

    assert report["as_recorded"] is True
    assert report["stages"]["ask"]["dead_letters"] == SECONDS
    assert read(tmp_path / "out") == read(recording)


def test_where_only_sources_were_recorded_ticks_are_made_at_their_times(
    recording: Path, file: Path, tmp_path: Path
) -> None:
    whole, alone = tmp_path / "whole", tmp_path / "alone"
    call_json("replay", recording, "--topology", file, "--out", whole, "--json")
    only = tmp_path / "only"
    call_json("recording", "cut", recording, "--streams", "signals", "--out", only, "--json")
    untouched = tmp_path / "no-ticks"
    with new_recording(untouched, Recording(only).header) as writer:
        for record in Recording(only).records():
            if record.event_type != "tick.passed":
                writer.add(record)

    report = call_json("replay", untouched, "--topology", file, "--out", alone, "--json")

    assert report["fed"]["findings"] == report["fed"]["signals"] - (2 * SECONDS + 2) > 0, "as many ticks in both"
    assert {said[5] for said in read(alone) if said[1] == "numbered"} == {
        said[5] for said in read(whole) if said[1] == "numbered"
    }


def test_streams_tick_once_also_where_nobody_saw_in_time_that_ticks_are_recorded(recording: Path, file: Path) -> None:
    found, graph = Recording(recording), load_topology(file)

    def ticks(ticking: set[str]) -> int:
        steps = Timetable(graph, found.header, ticking).steps(found.records())
        return sum(record.event_type == "tick.passed" for step in steps for record in step)

    assert ticks(set()) == ticks({"signals", "findings"}) > 0


def test_a_part_of_it_is_replayed_by_time_and_stream(recording: Path, file: Path) -> None:
    part = call_json("replay", recording, "--topology", file, "--from", "20s", "--to", "40s", "--json")
    nothing = call_json("replay", recording, "--topology", file, "--streams", "numbered", "--json")

    assert part["stages"]["count"]["read"] == 40
    assert part["conclusions"]["missing"] > 0, "what came of the time before"
    assert nothing["stages"]["count"]["read"] == 0
    assert call("replay", recording, "--topology", file, "--streams", "nowhere").exit_code == 2


def test_streams_the_topology_does_not_have_are_named(recording: Path, file: Path) -> None:
    file.write_text(TOPOLOGY.replace("numbered", "counted"))

    report = call_json("replay", recording, "--topology", file, "--json")

    assert report["streams_not_in_topology"] == ["numbered"]


def test_with_another_number_of_partitions_events_go_where_their_keys_belong_now(recording: Path, file: Path) -> None:
    file.write_text(TOPOLOGY.replace("partitions: 2", "partitions: 3"))

    report = call_json("replay", recording, "--topology", file, "--json")

    assert report["stages"]["count"]["read"] == 2 * SECONDS + 2
    assert report["stages"]["forward"]["put_out"] == report["stages"]["forward"]["read"] > SECONDS


def test_the_shipped_topology_is_replayed_by_default(tmp_path: Path) -> None:
    shipped = load_topology()
    intake = shipped.streams["intake"]
    path = tmp_path / "intake"
    with new_recording(path, Header.of([intake], PART)) as writer:
        for second in range(30):
            ms = START_US // 1000 + second * 1000
            said = HeartbeatSeen(service="ledger", healthy=second < 10)
            event = Event(id=derived_id("h", second), timestamp=from_us(ms * 1000), source="probe", payload=said)
            writer.add(_record(output_for(intake, event), Offset(ms, 0)))

    report = call_json("replay", path, "--json")

    assert report["stages"]["correlate"]["put_out"] >= 1
    assert report["answers"]["missing"] == [
        {"stage": "diagnose", "question": "RecallProblem", "count": 1},
        {"stage": "execute", "question": "ExecuteAction", "count": 1},
    ]
    assert report["stages"]["diagnose"]["put_out"] == 1, "it goes on without knowing"
    assert report["stages"]["execute"]["put_out"] == 1, "an action that failed: nothing was done"


async def test_what_was_read_and_committed_leaves_the_memory(file: Path, tmp_path: Path) -> None:
    graph = load_topology(file)
    signals = graph.streams["signals"]
    path = tmp_path / "long"
    with new_recording(path, Header.of([signals], PART)) as writer:
        for n in range(4_000):
            at = Offset(START_US // 1000 + n * 200, 0)
            writer.add(_record(output_for(signals, sample(n, f"s{n % 7}", at.ms / 1000)), at))
    found = Recording(path)
    replay = Replay(graph, Timetable(graph, found.header, ()), RecordedAnswers(found))

    tracemalloc.start()
    counts = await replay.play(found.records())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert counts.stages["count"].events == 4_000
    assert peak < 5_000_000, "all of it would take three times as much"


async def _recorded(graph: Topology, path: Path, *, asked: bool = True) -> Path:
    """A run on a mesh in memory, whose clock is that of the events."""
    driver = Driver(graph, {ExecuteAction: Echo()} if asked else {}, start_us=START_US)
    assert isinstance(driver.mesh, MemoryMesh)
    for second in range(SECONDS):
        at_s = START_US / 1e6 + second
        await driver.advance_to(START_US + second * 1_000_000)
        await driver.publish("signals", [sample(second, f"s{second % 3}", at_s), line(second, f"s{second % 4}", at_s)])
    await driver.publish("signals", [sample(1_000, "s0", START_US / 1e6 + SECONDS - 15)])
    await driver.mesh.publish([Output("signals", 0, "s1", "dream.dreamt", str(derived_id("dream")), DREAM)])
    await driver.run_until_idle()
    streams = [*graph.streams.values(), *OPERATION_STREAMS]
    said = [record for stream in streams for record in driver.mesh.records(stream.name)]
    with new_recording(path, Header.of(streams, PART)) as writer:
        for record in sorted(said, key=lambda each: (each.offset, each.stream, each.partition)):
            writer.add(record)
    return path


def _record(output: Output, offset: Offset) -> Record:
    return Record(output.stream, output.partition, offset, output.key, output.event_type, output.value)
