"""Runs a topology live, with a worker on a real server, and records what was said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.ports import ExecuteAction, ExecutionReport, RecallProblem, Recollection
from pipeline.archive.folder import Archive
from pipeline.engine.asking import Handlers
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import Output, Record
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from pipeline.recordings.gathering import gathered
from pipeline.recordings.header import Header
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import new_recording
from pipeline.replay.answers import RecordedAnswers
from pipeline.replay.counts import ReplayCounts
from pipeline.replay.player import Replay
from pipeline.replay.timetable import Timetable
from tests.pipeline.engine.working import idle, running
from tests.pipeline.recordings.recorded import PART, Told, told
from tests.polling import eventually
from topology.graph import Topology


async def recall(question: RecallProblem) -> Recollection:
    """Nothing is known."""
    return Recollection()


async def execute(question: ExecuteAction) -> ExecutionReport:
    """All goes well."""
    return ExecutionReport(status="succeeded", detail=question.idempotency_key)


async def live(url: str, graph: Topology, said: Sequence[Sequence[Output]], handlers: Handlers, path: Path) -> Path:
    """A recording of what a single worker concludes, while sources say one group after the other as fast as they can."""
    mesh = RedisMesh.connect(url, "live")
    async with running(Worker(mesh, graph, handlers, name="one")):
        for group in said:
            await mesh.publish(group)
        await eventually(lambda: idle(mesh, graph), saying="everything is committed", within_s=60)
    streams = [*graph.stored, *OPERATION_STREAMS]
    with new_recording(path, Header.of(streams, PART)) as writer:
        async for record in gathered(mesh, Archive(path.parent / "archive"), streams):
            writer.add(record)
    await mesh.close()
    return path


async def replayed(path: Path, graph: Topology) -> tuple[ReplayCounts, list[Told]]:
    """What came of a replay of all of it, and everything that was said in it."""
    recording = Recording(path)
    answers = RecordedAnswers(recording)
    said: list[Record] = []
    timetable = Timetable(graph, recording.header, answers.ticking)
    counts = await Replay(graph, timetable, answers, said.append).play(recording.records())
    assert not answers.missing
    return counts, told(said)
