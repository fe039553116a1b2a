"""Dead letters replayed by real workers: while events keep coming, over several workers, and without a pause for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.dead_letters import DeadLetters, replay
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import Echo, line
from tests.contracts.mending import release
from tests.pipeline.engine.working import Gate, events, publish, running
from tests.polling import eventually
from topology.graph import Topology

pytestmark = pytest.mark.servers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, "t")
    yield mesh
    await mesh.close()


async def known(mesh: RedisMesh) -> DeadLetters:
    letters = DeadLetters()
    await letters.follow(mesh)
    return letters


async def count(mesh: RedisMesh) -> int:
    return len((await known(mesh)).letters)


async def said(mesh: RedisMesh, graph: Topology, stream: str, service: str) -> list[tuple[str, float]]:
    found = [event.payload for event in await events(mesh, graph, stream)]
    return [(each.subject, each.value) for each in found if each.service == service]


async def park(mesh: RedisMesh, lines: int) -> None:
    """The first line of service 0 is too hard, so all others of it wait; one in five is of it."""
    graph = release(mended=False)
    async with running(Worker(mesh, graph, {ExecuteAction: Echo()}, name="old")):
        some = [line(n, f"s{n % 5}", n, level="error" if n == 0 else "info") for n in range(lines)]
        await publish(mesh, graph, some)
        letters = 2 * len(range(0, lines, 5))
        await eventually(
            lambda: is_(mesh, letters), saying="everything of it is a letter", within_s=30, seen=lambda: letters
        )


async def is_(mesh: RedisMesh, letters: int) -> bool:
    return await count(mesh) == letters


async def test_events_that_keep_coming_wait_behind_a_long_replay(mesh: RedisMesh) -> None:
    before, total = 1_000, 2_000
    await park(mesh, before)
    graph = release(mended=True)
    letters = await known(mesh)
    one = Worker(mesh, graph, {ExecuteAction: Echo()}, name="one")
    two = Worker(mesh, graph, {ExecuteAction: Echo()}, name="two")
    async with running(one, two):
        for n in range(before, total, 100):
            await publish(mesh, graph, [line(m, f"s{m % 5}", m) for m in range(n, n + 100)])
            if n == before + 500:
                await mesh.publish(replay(letters, graph, letters.letters, now=NOW, by="me").requests)
            await asyncio.sleep(0)

        async def done() -> bool:
            counts = [len(await said(mesh, graph, stream, "s0")) for stream in ("numbered", "answered")]
            return counts == [total // 5, total // 5]

        await eventually(done, saying="everything is processed", within_s=60)
    expected = [(f"line {n}", index) for index, n in enumerate(range(0, total, 5), start=1)]
    for stream in ("numbered", "answered"):
        assert await said(mesh, graph, stream, "s0") == expected
    assert await count(mesh) == 0


async def test_a_replay_that_waits_for_an_answer_holds_up_its_key_only(mesh: RedisMesh) -> None:
    await park(mesh, 10)
    graph, gate = release(mended=True), Gate("line 0")
    letters = await known(mesh)
    async with running(Worker(mesh, graph, {ExecuteAction: gate}, name="one")):
        await mesh.publish(replay(letters, graph, letters.letters, now=NOW, by="me").requests)
        await eventually(lambda: gate.asked.get("line 0"), saying="it asks")
        await publish(mesh, graph, [line(10, "s0", 10), line(11, "s1", 11), line(12, "s2", 12)])

        async def others() -> bool:
            answered = [len(await said(mesh, graph, "answered", service)) for service in ("s1", "s2")]
            return answered == [3, 3]

        await eventually(others, saying="the others go on")
        assert await said(mesh, graph, "answered", "s0") == []
        gate.open()

        async def done() -> bool:
            return await said(mesh, graph, "answered", "s0") == [("line 0", 1), ("line 5", 2), ("line 10", 3)]

        await eventually(done, saying="the key's letters come first")
    assert gate.asked["line 0"] == 1
