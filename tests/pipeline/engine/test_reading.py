"""A read that is on its way does not keep anybody from what can be read already."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from agents.ports import ExecuteAction
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.reading import WAIT_S
from pipeline.engine.record import Offset, Place, Record
from pipeline.engine.worker import Worker
from tests.contracts.counting import line, sample, topology
from tests.pipeline.engine.stages import SIGNALS, Picky, topology_of
from tests.pipeline.engine.working import Gate, events, idle, publish, running
from tests.pipeline.engine.working import worker as worker_of
from tests.polling import eventually
from topology.agent import World
from topology.event import Event
from topology.payloads import AnomalyDetected, MetricSampled


class QuietMesh(MemoryMesh):
    """Reads wait until there is something, as long as that takes: on a stream where nothing else happens."""

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        return await super().read(places, count=count, wait_s=3_600 if wait_s == WAIT_S else wait_s)


async def test_a_task_that_was_restored_is_not_kept_waiting_by_the_read_of_the_one_before() -> None:
    graph = topology()
    mesh = QuietMesh(lambda: time.time_ns() // 1_000_000)
    gate = Gate("line 1")
    worker = Worker(mesh, graph, {ExecuteAction: gate}, name="one", stages=["ask-world"])
    async with running(worker):
        # The second one is begun when the first has its answer, while a read is on its way; it writes before it asks.
        await publish(mesh, graph, [line(1, "a", 1), line(2, "a", 2, level="warning")])
        await eventually(lambda: gate.asked, saying="the first is asked about")
        gate.open()
        await eventually(lambda: worker.counts.restored, saying="the second wrote first")

        async def answered() -> bool:
            return len(await events(mesh, graph, "findings")) == 2

        await eventually(answered, saying="both are answered", within_s=5)


class MeteredMesh(MemoryMesh):
    """Knows how much it was made to say at once."""

    def __init__(self) -> None:
        super().__init__(lambda: time.time_ns() // 1_000_000)
        self.told: list[int] = []

    @property
    def most(self) -> int:
        return max(self.told)

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        records = await super().read(places, count=count, wait_s=wait_s)
        self.told.append(len(records))
        return records


async def test_hundreds_of_partitions_are_not_answered_with_hundreds_of_full_batches() -> None:
    graph = topology(partitions=128)
    mesh = MeteredMesh()
    await publish(mesh, graph, [sample(number, f"s{number}", 1) for number in range(26_000)])
    worker = Worker(mesh, graph, {}, name="one", stages=["count-windows"])
    async with running(worker):
        await eventually(lambda: worker.counts.records >= 26_000, saying="all of it is read", within_s=30)
    assert 15_000 < mesh.most <= 20_000


async def test_hundreds_of_quiet_partitions_that_fill_at_once_are_read_in_portions() -> None:
    graph = topology(partitions=400)
    mesh = MeteredMesh()
    one = Worker(mesh, graph, {}, name="one", stages=["count-windows"])

    async def reads() -> int:
        before = one.counts.records
        await publish(mesh, graph, [sample(before, "s", 1)])
        await eventually(lambda: one.counts.records > before, saying="it is read")
        return one.counts.records

    async with running(one):
        await eventually(lambda: len(one.owned) == 400 and not one.restoring, saying="it has everything")
        for _ in range(10):  # so few that the portions grow
            await reads()
        burst = [sample(number, f"s{number}", 1) for number in range(100, 100_100)]
        await publish(mesh, graph, burst)
        await eventually(lambda: one.counts.records >= 100_000, saying="all of it is read", within_s=30)
    assert 20_000 < mesh.most <= 50_000
    assert sum(told > 20_000 for told in mesh.told) == 1


class BacklogMesh(MemoryMesh):
    """Knows how much of the signals was read, and of that not committed, at most."""

    told = most_held = 0

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        records = await super().read(places, count=count, wait_s=wait_s)
        self.told += sum(record.stream == "signals" for record in records)
        (lag,) = await self.lags([("stage", 0, SIGNALS)])
        self.most_held = max(self.most_held, self.told - (4_000 - lag.waiting))
        return records


async def test_the_backlog_of_a_slow_stage_lies_in_the_mesh_and_not_in_memory() -> None:
    class Slow(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            time.sleep(0.0005)
            return super().process(event, world)

    graph, mesh = topology_of(Slow), BacklogMesh(lambda: time.time_ns() // 1_000_000)
    await publish(mesh, graph, [sample(n, f"s{n % 7}", n) for n in range(4_000)])
    async with running(worker_of(mesh, graph)):
        await eventually(lambda: idle(mesh, graph), saying="everything is committed", within_s=30)
    assert mesh.told == 4_000
    assert mesh.most_held <= 1_000
