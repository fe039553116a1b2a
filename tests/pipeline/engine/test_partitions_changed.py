"""Somebody changes the number of partitions of a running deployment's streams: that is refused before a key is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.mesh import PartitionsChangedError
from pipeline.engine.publisher import Publisher
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from pipeline.settings import Settings
from tests.contracts.counting import Echo, line, topology
from tests.pipeline.commands.calling import start
from tests.pipeline.engine.working import events, publish, running
from tests.polling import eventually
from topology.graph import Topology

pytestmark = [pytest.mark.servers]


def worker_of(mesh: RedisMesh, graph: Topology) -> Worker:
    return Worker(mesh, graph, {ExecuteAction: Echo()}, name="one")


async def test_a_worker_with_another_number_does_nothing_and_says_what_to_do(mesh: RedisMesh) -> None:
    four = topology(partitions=4)
    async with running(worker_of(mesh, four)):
        await publish(mesh, four, [line(1, "a", 1)])
        await eventually(lambda: events(mesh, four, "numbered"), saying="the line comes out")

    other = worker_of(mesh, topology(partitions=8))
    with pytest.raises(PartitionsChangedError, match=r"stream signals with 8 partitions, not 4.*AIOPS_NAMESPACE"):
        await asyncio.wait_for(other.run(), 10)
    assert other.counts.commits == 0

    async with running(worker_of(mesh, four)):
        await publish(mesh, four, [line(2, "a", 2)])
        await eventually(lambda: _came_out(mesh, four, 2), saying="with the number put back it goes on")


async def _came_out(mesh: RedisMesh, graph: Topology, count: int) -> bool:
    return len(await events(mesh, graph, "numbered")) == count


async def test_a_stage_may_not_move_to_a_stream_with_another_number_either(mesh: RedisMesh) -> None:
    graph = topology(partitions=4)
    worker = worker_of(mesh, graph)
    async with running(worker):
        await eventually(lambda: worker.owned, saying="the deployment has begun")
    eight = topology(partitions=8)
    renamed = replace(eight, streams={name: replace(each, name=f"new-{name}") for name, each in eight.streams.items()})
    with pytest.raises(PartitionsChangedError, match="declares stage count-windows with 8 partitions, not 4"):
        await asyncio.wait_for(worker_of(mesh, renamed).run(), 10)


async def test_a_source_with_another_number_publishes_nothing(mesh: RedisMesh) -> None:
    await publish(mesh, topology(partitions=4), [line(1, "a", 1)])
    with pytest.raises(PartitionsChangedError, match="stream signals"):
        await Publisher(mesh, topology(partitions=3).streams["signals"])([line(2, "a", 2)])


async def test_a_run_ends_as_of_a_bad_configuration(redis_url: str) -> None:
    mesh = RedisMesh.connect(redis_url, Settings().namespace)
    await mesh.declare({"stream signals": 3})
    await mesh.close()
    done = await asyncio.to_thread(
        start, "run", environment={"REDIS_URL": redis_url, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    )
    assert done.returncode == 78, done.stderr
    assert "stream signals with" in done.stderr.splitlines()[-1]
