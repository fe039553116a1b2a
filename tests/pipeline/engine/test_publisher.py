"""Putting events on a stream."""

from __future__ import annotations

import time

import pytest

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.publisher import Publisher
from tests.contracts.counting import sample, topology
from topology.errors import TopologyError
from topology.event import Event
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import HeartbeatSeen


async def test_repetitions_are_counted_and_dropped() -> None:
    mesh = MemoryMesh(lambda: time.time_ns() // 1_000_000)
    publish = Publisher(mesh, topology().streams["signals"])
    assert await publish([sample(1, "a", 1), sample(2, "a", 2)]) == 2
    assert await publish([sample(2, "a", 2), sample(3, "a", 3)]) == 1
    assert (publish.published, publish.repeated) == (3, 1)
    assert await publish([]) == 0


async def test_what_the_stream_does_not_carry_is_refused_as_a_whole() -> None:
    mesh = MemoryMesh(lambda: time.time_ns() // 1_000_000)
    publish = Publisher(mesh, topology().streams["signals"])
    beat = Event(
        id=derived_id("beat"), timestamp=from_us(1), source="test", payload=HeartbeatSeen(service="a", healthy=True)
    )
    with pytest.raises(TopologyError, match="'signals' carries LogWritten, MetricSampled, not HeartbeatSeen"):
        await publish([sample(1, "a", 1), beat])
    assert mesh.records("signals") == []
