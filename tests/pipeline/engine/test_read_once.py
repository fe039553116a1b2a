"""What several stages of a worker read is read once and decoded once: recent events are in memory for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.record import Offset, Place, Record
from tests.contracts.counting import line
from tests.pipeline.engine.working import idle, publish, running, worker
from tests.polling import eventually
from topology import Agent, Event, World
from topology.payloads import AnomalyDetected, LogWritten
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec


class Keeps(Agent[LogWritten, AnomalyDetected]):
    """Keeps the very events it was given."""

    given: ClassVar[list[Event[LogWritten]]] = []

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        self.given.append(event)
        return ()


class CountingMesh(MemoryMesh):
    """Counts the signals it was asked for."""

    told = 0

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        records = await super().read(places, count=count, wait_s=wait_s)
        self.told += sum(record.stream == "signals" for record in records)
        return records


async def test_two_stages_of_a_worker_get_one_reading_and_one_decoding_of_a_partition() -> None:
    def stage(name: str) -> StageSpec:
        return StageSpec(id=name, agent="once:Keeps", consumes=("signals",), emits=("findings",))

    carries = {"signals": ("LogWritten",), "findings": ("AnomalyDetected",)}
    streams = {name: StreamSpec(carries=each, partitions=1) for name, each in carries.items()}
    agents: dict[str, Any] = {"once:Keeps": Keeps}
    spec = TopologySpec(name="once", streams=streams, stages=(stage("one"), stage("two")))
    graph = resolve(spec, lambda name: agents[name])
    mesh = CountingMesh(lambda: time.time_ns() // 1_000_000)
    Keeps.given.clear()
    async with running(worker(mesh, graph)):
        for first in range(0, 2_000, 100):
            await publish(mesh, graph, [line(n, f"s{n}", n) for n in range(first, first + 100)])
        await eventually(lambda: len(Keeps.given) == 4_000, saying="both have seen everything")
        await eventually(lambda: idle(mesh, graph), saying="and committed it")

    assert mesh.told == 2_000
    assert len({id(event) for event in Keeps.given}) == 2_000
