"""An offset that has passed: everything up to it is there, and nothing comes there any more."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from redis.asyncio.cluster import RedisCluster

from pipeline.engine.record import Offset
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import topology
from tests.pipeline.archive.archiving import on_the_mesh, outputs
from tests.pipeline.engine.on_cluster import connected
from topology.ids import derived_id

SIGNALS = topology(partitions=3).streams["signals"]

pytestmark = pytest.mark.servers


async def ids_up_to(mesh: RedisMesh, past: Offset) -> list[str]:
    return [record.event.id_text for record in await on_the_mesh(mesh, SIGNALS) if record.offset <= past]


async def asked_for_the_time(mesh: RedisMesh) -> dict[str, int]:
    """How often each node of the cluster was."""
    told = await mesh.client.execute_command("INFO", "commandstats", target_nodes=RedisCluster.PRIMARIES)  # type: ignore[no-untyped-call]
    return {node: stats.get("cmdstat_time", {}).get("calls", 0) for node, stats in told.items()}


async def test_what_was_published_lies_up_to_it_and_what_is_published_then_behind_it(redis_url: str) -> None:
    mesh = RedisMesh.connect(redis_url, f"t{uuid4().hex[:8]}")
    ended = asyncio.Event()

    async def publish_all_the_time() -> None:
        number = 1_000_000
        while not ended.is_set():
            await mesh.publish(outputs(SIGNALS, range(number, number + 5)))
            number += 5

    publishing = asyncio.create_task(publish_all_the_time())
    for number in range(30):
        await mesh.publish(outputs(SIGNALS, [number]))
        past = await mesh.past()
        before = await ids_up_to(mesh, past)
        assert str(derived_id("sample", number)) in before
        await mesh.publish(outputs(SIGNALS, [1_000 + number]))
        assert await ids_up_to(mesh, past) == before
    ended.set()
    await publishing
    await mesh.close()


async def test_on_a_cluster_it_is_the_clock_of_the_node_furthest_behind(cluster_url: str) -> None:
    async with connected(cluster_url, f"t{uuid4().hex[:8]}") as mesh:
        await mesh.publish(outputs(SIGNALS, range(9)))
        before = await asked_for_the_time(mesh)
        past = await mesh.past()
        assert len(before) > 1
        assert all(asked > before[node] for node, asked in (await asked_for_the_time(mesh)).items())
        assert len(await ids_up_to(mesh, past)) == 9
        await mesh.publish(outputs(SIGNALS, range(9, 18)))
        assert len(await ids_up_to(mesh, past)) == 9
