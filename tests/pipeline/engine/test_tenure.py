"""Partitions move between workers on a real Redis: quickly, under load, some at a time, and beside all others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.mesh import Lease
from pipeline.engine.record import Place, Restored
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import Echo, line, sample, topology
from tests.pipeline.engine.working import events, idle, publish, running, worker
from tests.polling import eventually
from topology.graph import Topology

pytestmark = pytest.mark.servers

PARTITIONS = 32
PLACES = 3 * PARTITIONS
MOVED_WITHIN_S = 3.0
KEYS = 40


class Load:
    """Publishes lines of many services without a pause."""

    def __init__(self, mesh: RedisMesh, graph: Topology) -> None:
        self._mesh = mesh
        self._graph = graph
        self.said = 0

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        saying = asyncio.create_task(self._say())
        try:
            yield
        finally:
            saying.cancel()
            with suppress(asyncio.CancelledError):
                await saying

    async def _say(self) -> None:
        while True:
            some = [line(n, f"s{n % KEYS}", n) for n in range(self.said, self.said + 4)]
            # Not cancelled in the middle, so that it is known what was said.
            await asyncio.shield(publish(self._mesh, self._graph, some))
            self.said += len(some)

    async def nothing_is_lost_or_done_twice(self) -> None:
        await eventually(lambda: idle(self._mesh, self._graph), saying="everything is committed", within_s=20)
        await publish(self._mesh, self._graph, [line(n, f"s{n % KEYS}", n) for n in range(self.said, self.said + 4)])
        await eventually(lambda: idle(self._mesh, self._graph), saying="everything is committed", within_s=20)
        numbers: dict[str, list[float]] = {}
        for said in await events(self._mesh, self._graph, "numbered"):
            numbers.setdefault(said.payload.service, []).append(said.payload.score)
        assert sum(map(len, numbers.values())) == self.said + 4
        assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def shared(workers: Sequence[Worker]) -> bool:
    """Everything runs, at one worker only, and all have equally much."""
    held = [worker.owned for worker in workers]
    loads = [len(places) for places in held]
    return (
        len({place for places in held for place in places}) == sum(loads) == PLACES
        and max(loads) - min(loads) <= 1
        and not any(worker.restoring for worker in workers)
    )


async def test_who_comes_gets_its_share_and_who_goes_leaves_it_within_three_seconds_under_load(mesh: RedisMesh) -> None:
    graph = topology(partitions=PARTITIONS)
    one, two, three = (worker(mesh, graph, name=name) for name in ("one", "two", "three"))
    load, moved_s = Load(mesh, graph), []

    async def until_shared(*workers: Worker) -> None:
        began = time.monotonic()
        await eventually(lambda: shared(workers), saying="they share", seen=lambda: [len(w.owned) for w in workers])
        moved_s.append(time.monotonic() - began)

    async with running(one):
        await until_shared(one)
        async with load.going_on():
            async with running(two):
                await until_shared(one, two)
                before = set(one.owned)
                async with running(three):
                    await until_shared(one, two, three)
                    kept = before & set(one.owned)
                    assert len(kept) >= PLACES / 3 * 0.6, "most of what stays with one has not moved"
                await until_shared(one, two)
            await until_shared(one)
        await load.nothing_is_lost_or_done_twice()
    assert max(moved_s) < MOVED_WITHIN_S, moved_s
    assert one.counts.fenced == two.counts.fenced == three.counts.fenced == 0, "nobody took what was not given back"
    assert one.counts.handed_over >= PLACES / 2


async def test_workers_are_told_who_comes_and_goes_and_need_not_look(
    mesh: RedisMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.tenure.TEND_S", 600.0)
    graph = topology(partitions=PARTITIONS)
    one, two = (worker(mesh, graph, name=name, lease_s=3600.0) for name in ("one", "two"))
    async with running(one):
        await eventually(lambda: shared([one]), saying="it has everything")
        async with running(two):
            await eventually(lambda: shared([one, two]), saying="they share")
        await eventually(lambda: shared([one]), saying="it has everything again")


async def test_a_thousand_partitions_are_looked_after_in_a_few_calls(mesh: RedisMesh, redis: Any) -> None:
    graph = topology(partitions=1_000)
    one = Worker(mesh, graph, {ExecuteAction: Echo()}, name="one", stages=["count-windows"])

    async def calls() -> Counter[str]:
        stats = await redis.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): about["calls"] for name, about in stats.items()})

    async with running(one):
        await eventually(lambda: len(one.owned) == 1_000 and not one.restoring, saying="it has everything")
        began_s, before = time.monotonic(), await calls()
        await eventually(lambda: time.monotonic() - began_s > 2, saying="several looks pass")
        made = await calls() - before
        looks = (time.monotonic() - began_s) / 0.5 + 2
        assert made["evalsha"] <= looks * 3, "one to join, two to renew"
        assert made["xread"] <= looks * 2, "one connection reads all"
        await publish(mesh, graph, [sample(n, f"s{n}", n) for n in range(300)])

        async def all_read() -> bool:
            return one.counts.records == 300

        await eventually(all_read, saying="all of it is read")
    assert one.counts.fenced == 0


async def test_many_workers_that_come_at_once_share_evenly_and_lose_nothing(mesh: RedisMesh) -> None:
    graph = topology(partitions=PARTITIONS)
    workers = [worker(mesh, graph, name=f"worker-{n}") for n in range(8)]
    load = Load(mesh, graph)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(workers[0]))
        async with load.going_on():
            await stack.enter_async_context(running(*workers[1:]))
            await eventually(lambda: shared(workers), saying="they share", within_s=10)
        await load.nothing_is_lost_or_done_twice()
    assert sum(worker.counts.fenced for worker in workers) == 0


class SlowToRestore(RedisMesh):
    """Of some stages' partitions the state comes only when it is told to."""

    def held_back(self, *places: tuple[str, int]) -> None:
        self.places = set(places)
        self.go_on = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def restore(self, lease: Lease, inputs: Sequence[Place]) -> Restored:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if (lease.stage, lease.partition) in self.places:
            await self.go_on.wait()
        restored = await super().restore(lease, inputs)
        self.at_once -= 1
        return restored


@pytest.fixture
async def slow(redis_url: str) -> AsyncIterator[SlowToRestore]:
    slow = SlowToRestore.connect(redis_url, "t")
    assert isinstance(slow, SlowToRestore)
    yield slow
    await slow.close()


async def test_a_partition_that_is_long_in_coming_back_is_kept_and_holds_up_no_other(
    mesh: RedisMesh, slow: SlowToRestore
) -> None:
    graph, place = topology(partitions=1), ("count-windows", 0)
    slow.held_back(place)
    one = Worker(slow, graph, {ExecuteAction: Echo()}, name="one", lease_s=0.6)
    async with running(one):
        await eventually(lambda: list(one.restoring) == [place], saying="it is being restored")
        for n in range(5):
            await publish(mesh, graph, [line(n, "a", n), sample(n, "a", 20 * n)])
        until = time.monotonic() + 1.5  # several times the lease
        while time.monotonic() < until:
            assert await mesh.claim(*place, "two", 0.6) is None

        async def kinds() -> Counter[str]:
            return Counter(e.payload.kind for e in await events(mesh, graph, "numbered"))

        assert await kinds() == {"answer": 5}
        assert one.restoring == {place: "0 of 0 rows"}
        assert place in one.owned
        slow.go_on.set()
        await eventually(lambda: idle(mesh, graph), saying="it goes on where it was")
        assert await kinds() == {"answer": 5, "count": 4}
        assert one.restoring == {}
    assert one.counts.fenced == 0


async def test_only_a_few_partitions_are_restored_at_once(slow: SlowToRestore) -> None:
    graph = topology(partitions=PARTITIONS)
    slow.held_back(*(("count-windows", n) for n in range(PARTITIONS)))
    one = worker(slow, graph)
    async with running(one):
        await eventually(lambda: slow.at_once == 4, saying="some are being restored")
        assert len(one.owned) == PLACES
        slow.go_on.set()
        await eventually(lambda: shared([one]), saying="all are restored")
    assert slow.most_at_once == 4


async def test_a_worker_that_stops_while_it_restores_gives_its_leases_back(
    mesh: RedisMesh, slow: SlowToRestore
) -> None:
    graph = topology(partitions=1)
    slow.held_back(("count-windows", 0), ("forward", 0))
    async with running(worker(slow, graph, lease_s=60.0)):
        await eventually(lambda: slow.at_once == 2, saying="it is restoring")
    two = worker(mesh, graph, name="two")
    async with running(two):
        await eventually(lambda: len(two.owned) == 3 and not two.restoring, saying="another has them", within_s=2)
