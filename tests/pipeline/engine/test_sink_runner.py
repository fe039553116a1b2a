"""Feeding a sink: at least once, in order, past what it can never take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import DEAD_LETTERS
from pipeline.engine.record import BEGINNING, Output
from pipeline.engine.sink_runner import SinkRunner
from tests.contracts.counting import sample, topology
from tests.contracts.meshes import MESHES, opened
from tests.pipeline.engine.working import events, publish
from tests.polling import eventually
from topology.errors import RetryableError
from topology.event import Event, Payload
from topology.ids import derived_id

GRAPH = topology(partitions=2)
SIGNALS = GRAPH.streams["signals"]


class Shelf:
    """Keeps events in memory; away, slow, or choosy when told to be."""

    def __init__(self) -> None:
        self.kept: list[Event[Payload]] = []
        self.away = False
        self.refuses: Callable[[Event[Any]], bool] = lambda event: False
        self.slow: asyncio.Event | None = None
        self.writes = self.opened = self.closed = 0

    async def open(self) -> None:
        if self.away:
            msg = "the shelf is away"
            raise RetryableError(msg)
        self.opened += 1

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        self.writes += 1
        if self.away:
            msg = "the shelf is away"
            raise RetryableError(msg)
        if any(self.refuses(event) for event in events):
            msg = "a value is out of range"
            raise ValueError(msg)
        if self.slow is not None:
            await self.slow.wait()
        self.kept += events

    async def close(self) -> None:
        self.closed += 1

    @property
    def ids(self) -> list[Any]:
        return [event.id for event in self.kept]


@pytest.fixture(params=MESHES)
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    async with opened(request.param, request) as mesh:
        yield mesh


@asynccontextmanager
async def feeding(mesh: Mesh, shelf: Shelf, *, name: str = "one", lease_s: float = 5.0) -> AsyncIterator[SinkRunner]:
    runner = SinkRunner(mesh, "shelf", shelf, [SIGNALS], name=name, lease_s=lease_s)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_everything_is_handed_over_in_order_and_only_once(mesh: Mesh) -> None:
    shelf = Shelf()
    signals = [sample(n, f"s{n % 5}", n) for n in range(50)]
    await publish(mesh, GRAPH, signals)
    async with feeding(mesh, shelf) as runner:
        await eventually(lambda: runner.written == 50, saying="everything is written")
    again = Shelf()
    async with feeding(mesh, again) as runner:
        await publish(mesh, GRAPH, [sample(50, "s0", 50)])
        await eventually(lambda: runner.written == 1, saying="what came later is written")
    assert set(shelf.ids) == {signal.id for signal in signals}
    assert again.ids == [derived_id("sample", 50)]
    assert (shelf.opened, shelf.closed) == (1, 1)
    for service in range(5):
        times = [e.at_us for e in shelf.kept if getattr(e.payload, "service", "") == f"s{service}"]
        assert times == sorted(times)


async def test_a_store_that_is_away_is_waited_for_and_its_trouble_shows(mesh: Mesh) -> None:
    shelf = Shelf()
    shelf.away = True
    await publish(mesh, GRAPH, [sample(1, "a", 1)])
    async with feeding(mesh, shelf) as runner:
        await eventually(lambda: runner.trouble == "the shelf is away", saying="the trouble shows")
        shelf.away = False
        await eventually(lambda: runner.written == 1, saying="it is written")
        shelf.away = True
        await publish(mesh, GRAPH, [sample(2, "a", 2)])
        await eventually(lambda: runner.trouble, saying="the trouble shows")
        shelf.away = False
        await eventually(lambda: runner.written == 2, saying="it is written")
        assert runner.trouble == ""


async def test_a_batch_comes_again_after_a_crash_between_write_and_commit(mesh: Mesh) -> None:
    shelf = Shelf()
    shelf.slow = asyncio.Event()
    await publish(mesh, GRAPH, [sample(n, "a", n) for n in range(3)])
    async with feeding(mesh, shelf):
        await eventually(lambda: shelf.writes, saying="it writes")
    shelf.slow.set()
    async with feeding(mesh, shelf) as runner:
        await eventually(lambda: runner.written == 3, saying="the batch comes again")
    assert shelf.writes == 2


async def test_a_slow_write_keeps_its_lease(mesh: Mesh) -> None:
    shelf = Shelf()
    shelf.slow = asyncio.Event()
    await publish(mesh, GRAPH, [sample(1, "a", 1)])
    async with feeding(mesh, shelf, lease_s=0.2) as one, feeding(mesh, shelf, name="two", lease_s=0.2) as two:
        await eventually(lambda: shelf.writes, saying="one of them writes")
        until = asyncio.get_running_loop().time() + 0.6
        await eventually(lambda: asyncio.get_running_loop().time() > until, saying="three lease times pass")
        shelf.slow.set()
        await eventually(lambda: one.written + two.written == 1, saying="it is committed")
    assert shelf.writes == 1, "the other did not take over"


async def test_what_the_sink_can_never_take_is_found_and_the_rest_is_kept(mesh: Mesh) -> None:
    shelf = Shelf()
    shelf.refuses = lambda event: event.payload.metric == "bad"
    await publish(mesh, GRAPH, [sample(n, "a", n, "bad" if n in (7, 20) else "m") for n in range(40)])
    async with feeding(mesh, shelf) as runner:
        await eventually(lambda: runner.written == 38, saying="the others are written")
        letters = [e.payload for e in await events(mesh, GRAPH, "dead-letters")]
    assert [(letter.stage, letter.error) for letter in letters] == [("shelf", "ValueError")] * 2
    assert len(set(shelf.ids)) == len(shelf.ids) == 38


async def test_what_cannot_be_decoded_is_a_dead_letter(mesh: Mesh) -> None:
    shelf = Shelf()
    await mesh.publish([Output("signals", 0, "a", "metric.sampled", str(derived_id("broken")), b"not JSON")])
    await publish(mesh, GRAPH, [sample(1, "a", 1)])
    async with feeding(mesh, shelf) as runner:
        await eventually(lambda: runner.written == 1, saying="the other is written")

        async def letter() -> bool:
            return bool(await mesh.read({(DEAD_LETTERS.name, 0): BEGINNING}, count=9, wait_s=0))

        await eventually(letter, saying="there is a dead letter")
    [found] = await events(mesh, GRAPH, "dead-letters")
    assert found.payload.event == "not JSON"


async def test_of_two_workers_one_feeds_and_the_other_takes_over(mesh: Mesh) -> None:
    shelf = Shelf()
    async with feeding(mesh, shelf, name="two", lease_s=0.5) as two:
        async with feeding(mesh, shelf, name="one", lease_s=0.5) as one:
            await publish(mesh, GRAPH, [sample(n, "a", n) for n in range(5)])
            await eventually(lambda: one.written + two.written == 5, saying="one of them writes, and commits that")
        before = two.written
        await publish(mesh, GRAPH, [sample(n, "a", n) for n in range(5, 9)])
        await eventually(lambda: two.written == before + 4, saying="the other goes on")
    assert len(set(shelf.ids)) == len(shelf.ids) == 9
