"""What many partitions cost the server: one connection that waits, and no list of what is pending."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import Echo, line, topology
from tests.pipeline.engine.working import events, idle, publish, running
from tests.polling import eventually

pytestmark = pytest.mark.servers
PARTITIONS = 64


async def test_a_worker_waits_for_all_of_them_on_one_connection_and_leaves_nothing_pending(
    mesh: RedisMesh, redis: Any
) -> None:
    graph = topology(partitions=PARTITIONS)
    worker = Worker(mesh, graph, {ExecuteAction: Echo()}, name="one")
    async with running(worker):
        await eventually(lambda: len(worker.owned) == 3 * PARTITIONS, saying="it owns all", within_s=20)
        await publish(mesh, graph, [line(number, f"s{number}", number) for number in range(300)])
        await eventually(lambda: idle(mesh, graph), saying="all lines are done", within_s=20)
        assert (await redis.info("clients"))["blocked_clients"] <= 1
        assert len(await redis.client_list()) <= 24, "however many are asked and answered at once"
    assert len(await events(mesh, graph, "numbered")) == 300
    groups = [
        group
        for partition in range(PARTITIONS)
        for group in await redis.xinfo_groups(mesh.keys.partition(("signals", partition)))
    ]
    assert {group["pending"] for group in groups} == {0}


async def test_hundreds_who_publish_at_once_are_no_outage(mesh: RedisMesh) -> None:
    graph = topology(partitions=PARTITIONS)
    await asyncio.gather(*(publish(mesh, graph, [line(number, f"s{number}", 1)]) for number in range(400)))
    assert mesh.outage.trouble == ""
