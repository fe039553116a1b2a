"""The engine on a real Redis Cluster: several nodes, some of them away, and slots that move."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from agents.ports import ExecuteAction
from pipeline.engine.forwarder import Forwarder
from pipeline.engine.keys import OUTBOX
from pipeline.engine.mesh import LostWritesError, MeshUnavailableError
from pipeline.engine.record import BEGINNING, Commit, Place, Record
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.server_check import UnfitServerError
from pipeline.engine.worker import Worker
from tests.contracts.counting import Echo, line
from tests.fixtures.redis_cluster import ClusterOfNodes, cluster_node
from tests.outages.own_redis import OwnRedis, free_port
from tests.pipeline.engine.on_cluster import (
    GRAPH,
    SLOTS,
    all_is_done,
    connected,
    done_by_now,
    forwarding,
    move_slot,
    nothing_lost_nothing_double,
    outputs,
    persistent,
    put_out,
    taken,
)
from tests.pipeline.engine.working import publish, running
from tests.polling import eventually

pytestmark = pytest.mark.servers


@pytest.fixture
async def mesh(cluster_url: str) -> AsyncIterator[RedisMesh]:
    async with connected(cluster_url, f"t{uuid4().hex[:8]}") as mesh:
        yield mesh


async def test_what_stages_put_out_reaches_other_nodes_once_and_in_order(cluster_url: str, mesh: RedisMesh) -> None:
    workers = [Worker(mesh, GRAPH, {ExecuteAction: Echo()}, name=name) for name in ("one", "two")]
    async with connected(cluster_url, mesh.keys.namespace) as other:
        forwarders = [Forwarder(each, GRAPH, name=name) for each, name in ((mesh, "one"), (other, "two"))]
        async with running(*workers), forwarding(*forwarders):
            for first in range(0, 300, 20):
                await publish(mesh, GRAPH, [line(n, f"s{n % 30}", n) for n in range(first, first + 20)])
            await eventually(lambda: all_is_done(mesh), saying="all is done", within_s=20)
        await nothing_lost_nothing_double(mesh, 300)
        assert sum(forwarder.forwarded for forwarder in forwarders) > 300
        kept = await mesh.read({(OUTBOX, slot): BEGINNING for slot in SLOTS}, count=10, wait_s=0)
        assert kept == [], "what was forwarded is forgotten"


async def test_inputs_of_other_slots_show_their_lag_to_every_tool(mesh: RedisMesh) -> None:
    places = [("signals", partition) for partition in range(4)]
    await publish(mesh, GRAPH, [line(n, f"s{n}", n) for n in range(40)])
    lease = await mesh.claim("~sink-all", 0, "one", 60)
    assert lease is not None
    await mesh.restore(lease, places)
    read: dict[Place, list[Record]] = {place: [] for place in places}
    for record in await mesh.read(dict.fromkeys(places, BEGINNING), count=3, wait_s=0):
        read[record.stream, record.partition].append(record)
    commit = Commit(lease.stage, 0, {place: some[-1].offset for place, some in read.items()})
    commit.records = {place: len(some) for place, some in read.items()}
    assert await mesh.commit([(lease, commit)]) == [None]

    lags = {(lag.stream, lag.partition): lag.waiting for lag in await mesh.lags([("~sink-all", 0, p) for p in places])}
    assert sum(lags.values()) == 40 - sum(len(some) for some in read.values())
    shown = await mesh.oversight.positions(places)
    assert {each.place: each.waiting for each in shown if each.consumer == "~sink-all"} == lags


async def test_a_node_that_forgot_what_it_had_taken_is_noticed(own_cluster: ClusterOfNodes) -> None:
    node = next(node for p in range(1, 4) if (node := at(own_cluster, p)) is not at(own_cluster, 0))
    async with connected(own_cluster.url, "t") as publisher, connected(own_cluster.url, "t") as mesh:
        await publish(publisher, GRAPH, [line(n, f"s{n}", n) for n in range(40)])
        await put_out(mesh, outputs(40))
        forwarder = Forwarder(mesh, GRAPH, name="one")
        while await forwarder.step(wait_s=0):
            pass
        node.kill()
        shutil.rmtree(node.folder / "appendonlydir")
        node.start()

        async def loss(mesh: RedisMesh) -> str:
            try:
                await mesh.lags([("ask-world", partition, ("signals", partition)) for partition in range(4)])
            except (MeshUnavailableError, LostWritesError) as error:
                return str(error) if isinstance(error, LostWritesError) else ""
            return ""

        for stream, loser in (("signals", publisher), ("findings", mesh)):
            told = await eventually(lambda loser=loser: loss(loser), saying="the loss is noticed", within_s=20)  # type: ignore[misc]
            assert f" of {stream}/" in told


async def test_a_cluster_with_a_node_that_may_evict_is_refused(cluster_url: str, mesh: RedisMesh) -> None:
    with redis.Redis.from_url(cluster_url) as node:
        node.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(UnfitServerError, match="allkeys-lru"):
                await mesh.ping()
        finally:
            node.config_set("maxmemory-policy", "noeviction")
    await mesh.ping()


async def test_a_node_that_is_away_is_an_outage_and_no_loss(own_cluster: ClusterOfNodes) -> None:
    places = [("signals", partition) for partition in range(4)]
    consumers = [("~sink-all", 0, place) for place in places]
    async with connected(own_cluster.url, "t") as mesh:
        await publish(mesh, GRAPH, [line(n, f"s{n}", n) for n in range(40)])
        lease = await mesh.claim("~sink-all", 0, "one", 60)
        assert lease is not None
        away = next(
            node for p in places if (node := own_cluster.owner(mesh.keys.partition(p))[1]) is not at(own_cluster, 0)
        )
        away.kill()
        for _ in range(2):
            with pytest.raises(MeshUnavailableError):
                await mesh.restore(lease, places)
            with pytest.raises(MeshUnavailableError):
                await mesh.lags(consumers)
        assert "away" in mesh.outage.trouble
        away.start()

        async def waiting() -> int:
            try:
                await mesh.restore(lease, places)
                return sum(lag.waiting for lag in await mesh.lags(consumers))
            except MeshUnavailableError:
                return 0

        assert await eventually(waiting, saying="it is back", within_s=20) == 40


def at(cluster: ClusterOfNodes, partition: int) -> OwnRedis:
    return cluster.owner(f"{{t:{partition}}}")[1]


@pytest.mark.slow
async def test_slots_that_move_while_events_flow_lose_and_repeat_nothing(own_cluster: ClusterOfNodes) -> None:
    first, second, third = own_cluster.nodes
    after = {first.port: second, second.port: third, third.port: first}
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(connected(own_cluster.url, "t"))
        source = await stack.enter_async_context(connected(own_cluster.url, "t"))
        await stack.enter_async_context(persistent(Worker(mesh, GRAPH, {ExecuteAction: Echo()}, name="one")))
        await stack.enter_async_context(persistent(Forwarder(mesh, GRAPH, name="one")))
        lines, moved = 0, 0
        for number in range(10):
            batch = [line(n, f"s{n % 30}", n) for n in range(lines, lines + 30)]
            moving = asyncio.create_task(asyncio.to_thread(move_slot, own_cluster, number % 5, after))
            await eventually(lambda batch=batch: taken(source, batch), saying="it is taken", within_s=20)  # type: ignore[misc]
            moved += await moving
            lines += 30
        await eventually(lambda: done_by_now(mesh), saying="all is done", within_s=30)
        assert moved > 50
        await nothing_lost_nothing_double(mesh, lines)


@pytest.mark.long
async def test_a_replica_that_takes_over_in_order_loses_and_repeats_nothing(
    own_cluster: ClusterOfNodes, state_dir: Path
) -> None:
    _, primary = own_cluster.owner("{t:2}")
    async with AsyncExitStack() as stack:
        replica = stack.enter_context(cluster_node(state_dir / "replica", bus_port := free_port()))
        own_cluster.replicate(primary, replica, bus_port)
        mesh = await stack.enter_async_context(connected(own_cluster.url, "t"))
        source = await stack.enter_async_context(connected(own_cluster.url, "t"))
        await stack.enter_async_context(persistent(Worker(mesh, GRAPH, {ExecuteAction: Echo()}, name="one")))
        await stack.enter_async_context(persistent(Forwarder(mesh, GRAPH, name="one")))
        for first in range(0, 300, 30):
            batch = [line(n, f"s{n % 30}", n) for n in range(first, first + 30)]
            if first == 150:
                with replica.client() as client:
                    client.execute_command("CLUSTER", "FAILOVER")
            await eventually(lambda batch=batch: taken(source, batch), saying="it is taken", within_s=20)  # type: ignore[misc]
        await eventually(lambda: own_cluster.owner("{t:2}")[1] is replica, saying="the replica took over", within_s=20)
        await eventually(lambda: done_by_now(mesh), saying="all is done", within_s=30)
        await nothing_lost_nothing_double(mesh, 300)


@pytest.mark.long
async def test_a_replica_that_takes_over_without_the_last_writes_is_noticed(
    own_cluster: ClusterOfNodes, state_dir: Path
) -> None:
    _, primary = own_cluster.owner("{t:2}")
    with cluster_node(state_dir / "replica", bus_port := free_port()) as replica:
        own_cluster.replicate(primary, replica, bus_port)
        async with connected(own_cluster.url, "t") as mesh:
            await publish(mesh, GRAPH, [line(n, f"s{n}", n) for n in range(40)])
            own_cluster.cut_off(primary, replica)
            await publish(mesh, GRAPH, [line(n, f"s{n}", n) for n in range(40, 80)])
            primary.kill()
            with replica.client() as client:
                client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")

            async def outcome() -> str:
                try:
                    await publish(mesh, GRAPH, [line(n, f"s{n}", n) for n in range(80, 120)])
                except (MeshUnavailableError, LostWritesError) as error:
                    return str(error) if isinstance(error, LostWritesError) else ""
                return ""

            assert "which it had taken" in await eventually(outcome, saying="the loss is noticed", within_s=20)
