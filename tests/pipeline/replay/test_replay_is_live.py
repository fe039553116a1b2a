"""A replay says what the live run said: the same bytes, at the same places, ids included."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.ports import ExecuteAction, RecallProblem
from pipeline.engine.record import Output, output_for
from pipeline.engine.ticker import ticks
from pipeline.loading import load_topology
from tests.contracts.counting import Echo, line, sample, topology
from tests.pipeline.recordings.recorded import read
from tests.pipeline.replay.recorded_live import execute, live, recall, replayed
from topology.event import Event, Payload
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads.signals import HeartbeatSeen, LogWritten, MetricSampled

pytestmark = pytest.mark.servers
SECONDS = 90
START_US = 1_800_000_000_000_000


async def test_windows_questions_and_dead_letters_come_again_to_the_byte(redis_url: str, tmp_path: Path) -> None:
    graph = topology(on_poison="park-key")
    signals = graph.streams["signals"]
    said = [
        [
            output_for(signals, sample(n, f"s{n % 7}", n, "poison" if n == 333 else "m")),
            output_for(signals, line(n, f"s{n % 5}", n, level="warning" if n % 3 == 0 else "info")),
        ]
        for n in range(600)
    ]
    path = await live(redis_url, graph, said, {ExecuteAction: Echo()}, tmp_path / "live.rec")

    counts, told = await replayed(path, graph)

    assert counts.as_recorded, counts.as_json()
    assert counts.stages["count-windows"].dead_letters > 1, "the poisoned one, and those of its key that came later"
    assert counts.again > 1200
    assert told == read(path)


async def test_the_shipped_detectors_conclude_the_same_to_the_byte(redis_url: str, tmp_path: Path) -> None:
    graph = load_topology()
    path = await live(redis_url, graph, _story(graph), {RecallProblem: recall, ExecuteAction: execute}, tmp_path / "l")

    counts, told = await replayed(path, graph)

    assert told == read(path)
    assert counts.as_recorded, counts.as_json()
    assert counts.stages["correlate"].put_out > 0


def _story(graph: Topology) -> list[list[Output]]:
    """Two services say how they are, every second; for half a minute one of them does not answer, and logs errors."""
    intake = graph.streams["intake"]
    groups = []
    for second in range(SECONDS):
        at_us = START_US + second * 1_000_000
        ill = 30 <= second < 60
        payloads: list[Payload] = []
        for service in ("ledger", "ledger-store"):
            healthy = not (ill and service == "ledger")
            payloads += [
                HeartbeatSeen(service=service, healthy=healthy, latency_ms=10.0 + second % 3),
                MetricSampled(service=service, metric="latency", value=100 + (second * 7) % 11 + 500 * ill),
                LogWritten.model_validate(
                    {
                        "service": service,
                        "message": f"request {second} {'ok' if healthy else 'failed'}",
                        "level": "info" if healthy else "error",
                    }
                ),
            ]
        events = [
            Event(id=derived_id("said", second, n), timestamp=from_us(at_us + n), source="test", payload=payload)
            for n, payload in enumerate(payloads)
        ]
        groups.append(ticks(graph.streams.values(), at_us - 1_000_000, at_us))
        groups.append([output_for(intake, event) for event in events])
    return groups
