"""Ticks: one for each partition and instant, whoever puts them there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset
from pipeline.engine.ticker import Ticker, ticks
from tests.contracts.meshes import MESHES, opened
from tests.pipeline.engine.stages import Picky, topology_of
from tests.polling import eventually
from topology.graph import Topology
from topology.moments import span_us
from topology.resolve import resolve
from topology.spec import StreamSpec, TopologySpec


def ticking(every: str, *, partitions: int = 2) -> Topology:
    fast = StreamSpec.model_validate({"carries": ["MetricSampled"], "partitions": partitions, "ticks": every})
    silent = StreamSpec(carries=("LogWritten",), partitions=1)
    return resolve(TopologySpec(name="ticking", streams={"fast": fast, "silent": silent}, stages=()), lambda _: Picky)


@pytest.fixture(params=MESHES)
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    async with opened(request.param, request) as mesh:
        yield mesh


@asynccontextmanager
async def running(*tickers: Ticker) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(ticker.run()) for ticker in tickers]
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def ticked(mesh: Mesh) -> list[tuple[int, int]]:
    """Partition and instant of every tick."""
    places: dict[tuple[str, int], Offset] = {("fast", partition): BEGINNING for partition in range(2)}
    records = await mesh.read(places, count=10_000, wait_s=0)
    return [(record.partition, record.event.at_us) for record in records]


async def test_two_tickers_tick_once(mesh: Mesh) -> None:
    graph = ticking("50ms")
    tickers = [Ticker(mesh, graph, name=name) for name in ("one", "two")]
    async with running(*tickers) as tasks:
        await eventually(lambda: more_than(mesh, 20), saying="ten ticks of two partitions")
        found = await ticked(mesh)
        assert not any(task.done() for task in tasks)
    assert set(Counter(found).values()) == {1}
    instants = sorted({at_us for _, at_us in found})
    assert all(at_us % 50_000 == 0 for at_us in instants)
    assert instants == list(range(instants[0], instants[-1] + 1, 50_000)), "none is left out"


async def more_than(mesh: Mesh, count: int) -> bool:
    return len(await ticked(mesh)) > count


async def test_when_one_ends_the_other_goes_on(mesh: Mesh) -> None:
    graph = ticking("50ms")
    one, two = (Ticker(mesh, graph, name=name) for name in ("one", "two"))
    async with running(one) as [first]:
        await eventually(lambda: more_than(mesh, 2), saying="the first ticks")
        async with running(two):
            first.cancel()
            await asyncio.wait({first})
            ended_us = time.time_ns() // 1000
            await eventually(lambda: after(mesh, ended_us), saying="the second goes on at once", within_s=4)
            assert set(Counter(await ticked(mesh)).values()) == {1}


async def after(mesh: Mesh, at_us: int) -> bool:
    return any(tick > at_us for _, tick in await ticked(mesh))


async def test_it_waits_for_what_is_still_to_be_published_of_the_past(mesh: Mesh) -> None:
    caught_up = asyncio.Event()

    async def after_it() -> None:
        await caught_up.wait()

    async with running(Ticker(mesh, ticking("50ms"), name="one", after=after_it)):
        began_s = time.monotonic()
        await eventually(lambda: time.monotonic() > began_s + 0.3, saying="some time passes")
        assert await ticked(mesh) == []
        behind_us = time.time_ns() // 1000
        caught_up.set()
        await eventually(lambda: more_than(mesh, 2), saying="it ticks")
        assert all(at_us > behind_us - 100_000 for _, at_us in await ticked(mesh)), "with the present"


def test_ticks_fall_on_whole_intervals_after_the_beginning_up_to_the_end() -> None:
    stream = ticking("1s").streams["fast"]
    assert stream.ticks_us is not None
    found = ticks([stream], 1_000_000, 3_000_000)
    assert [(o.partition, o.id) for o in found] == [(o.partition, o.id) for o in ticks([stream], 1_500_000, 3_400_000)]
    assert len(found) == 4
    assert ticks([stream], 1_000_000, 1_999_999) == []


async def test_a_topology_without_ticks_is_left_alone(mesh: Mesh) -> None:
    graph = topology_of(Picky)
    assert all(stream.spec.ticks is None or span_us(stream.spec.ticks) for stream in graph.streams.values())
    async with running(Ticker(mesh, graph, name="one")) as [task]:
        await asyncio.wait({task}, timeout=0.05)
        assert not task.done()


async def test_after_a_long_pause_it_goes_on_with_the_present(mesh: Mesh) -> None:
    ahead_us = 0
    ticker = Ticker(mesh, ticking("50ms"), name="one", lease_s=1.0, clock_us=lambda: time.time_ns() // 1000 + ahead_us)
    async with running(ticker):
        await eventually(lambda: more_than(mesh, 2), saying="it ticks")
        before_us = max(at_us for _, at_us in await ticked(mesh))
        ahead_us = 3_600_000_000
        await eventually(lambda: after(mesh, before_us + ahead_us), saying="it ticks again")
    jumped = [at_us for partition, at_us in await ticked(mesh) if partition == 0 and at_us > before_us + 1_000_000]
    assert min(jumped) > before_us + ahead_us - 1_100_000, "an hour ago nobody was there to hear it"


async def test_of_rare_ticks_the_last_one_is_not_left_out(mesh: Mesh) -> None:
    noon_us, ahead_us = 1_800_000_000_000_000 // 3_600_000_000 * 3_600_000_000, 0
    began_us = time.time_ns() // 1000
    ticker = Ticker(
        mesh,
        ticking("1h"),
        name="one",
        lease_s=1.0,
        clock_us=lambda: noon_us - 300_000 + time.time_ns() // 1000 - began_us + ahead_us,
    )
    async with running(ticker):
        await asyncio.sleep(0)
        ahead_us = 60_000_000  # when it wakes up at noon, it is a minute past
        await eventually(lambda: more_than(mesh, 1), saying="it ticks")
    assert {at_us for _, at_us in await ticked(mesh)} == {noon_us}
