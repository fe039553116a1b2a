"""``aiops bench backtest``: how fast a recording is read and replayed, in this process and without a server."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.bench.oracle import refuse_wrong_counts
from pipeline.bench.stages import INPUT, OUTPUT, topology
from pipeline.bench.workload import Windows, Workload, counted_windows
from pipeline.engine.record import Offset, Record, output_for
from pipeline.loading import load_topology
from pipeline.recordings.header import Header, Part
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import new_recording
from pipeline.replay.answers import RecordedAnswers
from pipeline.replay.player import Replay
from pipeline.replay.timetable import Timetable
from topology.event import Event, Payload
from topology.graph import Stream, Topology
from topology.ids import derived_id
from topology.moments import from_us, to_us
from topology.payloads.signals import HeartbeatSeen, LogWritten, MetricSampled

EVENTS, QUICK_EVENTS = 100_000, 5_000
ROUNDS, QUICK_ROUNDS = 3, 1
_KEYS = 100
_SERVICES = 20
_METRICS = ("cpu", "memory", "requests", "errors", "latency")
_DETECTORS = "agents.monitor."
_NOT_DETECTORS = ("agents.monitor.correlate",)

Tell = Callable[[str], None]


async def measure(*, events: int, rounds: int, tell: Tell) -> dict[str, Any]:
    """A windowed count, and all detectors that ship, so many times each: a recording is read, and replayed.

    Raises:
        WrongResultError: the windows are wrong; there are no figures then.
    """
    with TemporaryDirectory() as folder:
        counting, detecting = topology("count", keys=_KEYS, partitions=1), _detectors()
        samples = _recorded(Path(folder) / "count", counting.streams[INPUT], _samples(events))
        signals = _recorded(Path(folder) / "detectors", detecting.streams["intake"], _signals(events, detecting))
        await _check(samples, counting, counted_windows(Workload(events, _KEYS).samples(), _KEYS))
        rates: dict[str, list[float]] = {"count": [], "detectors": []}
        for number in range(rounds):
            rates["count"].append(await _replay(samples, counting, events))
            rates["detectors"].append(await _replay(signals, detecting, events))
            said = ", ".join(f"{name} {each[-1]:,.0f}/s" for name, each in rates.items())
            tell(f"round {number + 1} of {rounds}: {said}")
    return {
        "events": events,
        "rounds": rounds,
        "cases": {
            name: {"events_per_cpu_s": round(median(each)), "range": [round(min(each)), round(max(each))]}
            for name, each in rates.items()
        },
    }


async def _replay(path: Path, graph: Topology, events: int, said: Callable[[Record], None] | None = None) -> float:
    began_s = time.process_time()
    recording = Recording(path)
    answers = RecordedAnswers(recording)
    replay = Replay(graph, Timetable(graph, recording.header, answers.ticking), answers, said)
    await replay.play(recording.records())
    return events / (time.process_time() - began_s)


async def _check(path: Path, graph: Topology, expected: Windows) -> None:
    said: list[Event[Payload]] = []

    def take(record: Record) -> None:
        if record.stream == OUTPUT:
            said.append(record.event)

    await _replay(path, graph, 0, take)
    found = {(each.payload.service, to_us(each.timestamp)): int(each.payload.value) for each in said}  # type: ignore[attr-defined]
    refuse_wrong_counts(expected, found, repeated=len(said) - len(found))


def _recorded(path: Path, stream: Stream, records: Iterable[Record]) -> Path:
    part = Part(recorded_at=from_us(Workload(1, 1).start_us), topology="bench", digest="")
    with new_recording(path, Header.of([stream], part)) as writer:
        for record in records:
            writer.add(record)
    return path


def _samples(events: int) -> Iterator[Record]:
    """The workload of all benchmarks, in one partition, as it arrived."""
    workload = Workload(events, _KEYS)
    for number, sample in enumerate(workload.samples()):
        arrived = Offset(workload.start_us // 1000 + number * 1000 // workload.rate, number)
        yield Record(INPUT, 0, arrived, sample.service, MetricSampled.event_type, sample.value)


def _detectors() -> Topology:
    """The topology that ships, as far as its detectors."""
    shipped = load_topology()
    stages = [
        stage
        for stage in shipped.stages
        if stage.spec.agent.startswith(_DETECTORS) and not stage.spec.agent.startswith(_NOT_DETECTORS)
    ]
    return replace(shipped, stages=tuple(stages))


def _signals(events: int, graph: Topology) -> Iterator[Record]:
    """What twenty services say in seconds of peace: metrics, log lines and answers to probes."""
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    start_us, services = Workload(1, 1).start_us, [f"service-{number}" for number in range(_SERVICES)]
    kinds = len(_METRICS) + 2
    for number in range(events):
        turn, kind = divmod(number // _SERVICES, kinds)
        name = services[number % _SERVICES]
        at_us = start_us + turn * 1_000_000 + kind * 1_000
        event: Event[Payload] = Event(
            id=derived_id("bench", number),
            timestamp=from_us(at_us),
            source="bench",
            payload=_payload(chance, name, kind),
        )
        said = output_for(graph.streams["intake"], event)
        yield Record(said.stream, said.partition, Offset(at_us // 1000, number), said.key, said.event_type, said.value)


def _payload(chance: random.Random, name: str, kind: int) -> Payload:
    if kind < len(_METRICS):
        return MetricSampled(service=name, metric=_METRICS[kind], value=100 + chance.gauss(0, 5))
    if kind == len(_METRICS):
        return LogWritten(service=name, message=f"request {chance.randrange(10_000)} took {chance.randrange(90)} ms")
    return HeartbeatSeen(service=name, healthy=True, latency_ms=chance.uniform(5, 15))
