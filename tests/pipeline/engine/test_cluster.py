"""The engine on a real Redis Cluster: what commits send to other slots, whoever dies, and while slots move."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.ports import ExecuteAction
from pipeline.engine.forwarder import STAGE, Forwarder
from pipeline.engine.keys import OUTBOX
from pipeline.engine.mesh import FencedError, LostWritesError, MeshUnavailableError
from pipeline.engine.outbox import ENTRIES_PER_BATCH, opened, through_outbox
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, Place, Record
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.supervision import Routine
from pipeline.engine.worker import Worker
from tests.contracts.counting import AGENTS, Echo, line
from tests.contracts.crashing import CrashError, CrashingMesh, When
from tests.fixtures.redis_cluster import ClusterOfNodes, cluster_node
from tests.outages.own_redis import OwnRedis, free_port
from tests.pipeline.engine.working import events, idle, publish, running
from tests.polling import eventually
from topology.graph import Topology
from topology.ids import derived_id
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

pytestmark = pytest.mark.servers


def rekeyed() -> Topology:
    """signals -> ask-world -> findings -> forward -> numbered, each with other numbers of partitions than the one before."""

    def stage(stage_id: str, agent: str, consumes: str, emits: str) -> StageSpec:
        return StageSpec.model_validate(
            {"id": stage_id, "agent": f"counting:{agent}", "consumes": consumes, "emits": emits}
        )

    spec = TopologySpec(
        name="rekeyed",
        streams={
            "signals": StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=4),
            "findings": StreamSpec(carries=("AnomalyDetected",), partitions=3),
            "numbered": StreamSpec(carries=("AnomalyDetected",), partitions=5),
        },
        stages=(
            stage("ask-world", "AskWorld", "signals", "findings"),
            stage("forward", "Forward", "findings", "numbered"),
        ),
    )
    return resolve(spec, lambda name: AGENTS[name])


GRAPH = rekeyed()
SLOTS = range(5)


@asynccontextmanager
async def connected(url: str, namespace: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(url, namespace)
    try:
        yield mesh
    finally:
        await mesh.close()


@pytest.fixture
async def mesh(cluster_url: str) -> AsyncIterator[RedisMesh]:
    async with connected(cluster_url, f"t{uuid4().hex[:8]}") as mesh:
        yield mesh


@asynccontextmanager
async def forwarding(*forwarders: Forwarder) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(forwarder.run()) for forwarder in forwarders]
    try:
        yield
        assert not any(task.done() for task in tasks), [task.exception() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_is_done(mesh: RedisMesh) -> bool:
    """Whether nothing waits for a stage, nor in an outbox, nor did while it was looked."""
    for _ in range(2):
        waiting = await mesh.lags([(STAGE, slot, (OUTBOX, slot)) for slot in SLOTS])
        if any(lag.waiting for lag in waiting) or not await idle(mesh, GRAPH):
            return False
    return True


async def nothing_lost_nothing_double(mesh: RedisMesh, lines: int) -> None:
    numbered = await events(mesh, GRAPH, "numbered")
    assert len(numbered) == lines
    for stream, number in (("numbered", "score"), ("findings", "value")):
        per_service: dict[str, list[float]] = {}
        for said in await events(mesh, GRAPH, stream):
            per_service.setdefault(said.payload.service, []).append(getattr(said.payload, number))
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in per_service.values()), stream


def outputs(count: int, first: int = 0) -> list[Output]:
    return [
        Output("findings", n % 4, f"key/{n % 8}", "anomaly.detected", str(derived_id(n)), b'{"number": %d}' % n)
        for n in range(first, first + count)
    ]


async def put_out(mesh: RedisMesh, *batches: Sequence[Output]) -> None:
    """Commit outputs of one partition to four of another stream."""
    lease = await mesh.claim("count", 0, "one", 60)
    assert lease is not None
    await mesh.restore(lease, [])
    for batch in batches:
        assert await mesh.commit([(lease, Commit("count", 0, {}, outputs=list(batch)))]) == [None]


async def found(mesh: RedisMesh) -> dict[int, list[bytes]]:
    places: dict[Place, Offset] = {("findings", partition): BEGINNING for partition in range(4)}
    values: dict[int, list[bytes]] = {partition: [] for partition in range(4)}
    for record in await mesh.read(places, count=100_000, wait_s=0):
        values[record.partition].append(record.value)
    return values


def expected(count: int) -> dict[int, list[bytes]]:
    return {partition: [b'{"number": %d}' % n for n in range(partition, count, 4)] for partition in range(4)}


@given(
    stream=st.from_regex(r"[a-z][a-z0-9.-]{0,62}", fullmatch=True),
    partition=st.integers(0, 10_000),
    key=st.text(max_size=20),
    value=st.binary(max_size=20),
)
def test_an_outbox_gives_back_what_was_put_into_it(stream: str, partition: int, key: str, value: bytes) -> None:
    output = Output(stream, partition, key, "metric.sampled", str(derived_id(1)), value)
    [enclosed] = through_outbox(Commit("count", 3, {}, outputs=[output])).outputs
    if partition % 64 == 3:
        assert enclosed is output, "what is in the same slot needs no outbox"
    else:
        entry = Record(
            enclosed.stream, enclosed.partition, BEGINNING, enclosed.key, enclosed.event_type, enclosed.value
        )
        assert (enclosed.stream, enclosed.partition, opened(entry)) == (OUTBOX, 3, output)


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


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_forwarder_that_dies_after_it_appended_loses_nothing_and_repeats_nothing(
    mesh: RedisMesh, when: When
) -> None:
    total = 3 * ENTRIES_PER_BATCH
    await put_out(mesh, outputs(total // 2), outputs(total - total // 2, total // 2))
    crashing: Any = CrashingMesh(mesh, dict.fromkeys(range(100), when))
    deaths = 0
    for _ in range(20):
        doomed = Forwarder(crashing, GRAPH, name="one")
        try:
            await doomed.step(wait_s=0)
        except CrashError:
            deaths += 1
        if deaths == 3:
            break
    successor = Forwarder(mesh, GRAPH, name="one")
    while await successor.step(wait_s=0):
        pass

    assert deaths == 3
    assert await found(mesh) == expected(total)
    if when == "before":
        assert successor.forwarded < total * 3 // 4, "of what is appended again nothing is new"


async def test_a_forwarder_that_was_replaced_without_noticing_is_refused(mesh: RedisMesh) -> None:
    await put_out(mesh, outputs(8))
    stale = await mesh.claim(STAGE, 0, "stale", 60)
    assert stale is not None
    entries = await mesh.read({(OUTBOX, 0): BEGINNING}, count=100, wait_s=0)
    to_one = [entry for entry in entries if opened(entry).partition == 1]
    await mesh.release(stale)
    current = Forwarder(mesh, GRAPH, name="current")
    while await current.step(wait_s=0):
        pass

    with pytest.raises(FencedError):
        await mesh.forward(stale, to_one)
    assert await found(mesh) == expected(8)


async def test_forwarders_go_on_when_a_server_has_forgotten_how_many_there_were(mesh: RedisMesh) -> None:
    await put_out(mesh, outputs(8))
    for name in ("one", "two", "three"):
        forwarder = Forwarder(mesh, GRAPH, name=name, lease_s=0.01)
        while await forwarder.step(wait_s=0):
            pass
        for what in ("lease", "tokens"):
            await mesh.client.delete(mesh.keys.owned(STAGE, 0, what))
    await put_out(mesh, outputs(8, 8))
    async with forwarding(Forwarder(mesh, GRAPH, name="four", lease_s=0.4)):
        await eventually(lambda: found(mesh), saying="it reads")

        async def arrived() -> bool:
            return await found(mesh) == expected(16)

        await eventually(arrived, saying="the rest arrived")


async def test_workers_share_the_outboxes_and_leave_none_lying(mesh: RedisMesh) -> None:
    for name in ("one", "two"):
        await mesh.join(name, 60)
    one, two = (Forwarder(mesh, GRAPH, name=name, lease_s=0.4) for name in ("one", "two"))
    async with forwarding(one):
        async with forwarding(two):
            await eventually(
                lambda: sorted([*one.slots, *two.slots]) == list(SLOTS) and abs(len(one.slots) - len(two.slots)) == 1,
                saying="they share",
                seen=lambda: (one.slots, two.slots),
            )
        await put_out(mesh, outputs(80))

        async def arrived() -> bool:
            return await found(mesh) == expected(80)

        await eventually(arrived, saying="the one that is left forwards all, although the other seems alive")


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
    async with connected(own_cluster.url, "t") as mesh:
        await publish(mesh, GRAPH, [line(n, f"s{n}", n) for n in range(40)])
        _, node = own_cluster.owner(mesh.keys.partition(("signals", 2)))
        node.kill()
        shutil.rmtree(node.folder / "appendonlydir")
        node.start()
        consumers = [("ask-world", partition, ("signals", partition)) for partition in range(4)]

        async def outcome() -> str:
            try:
                await mesh.lags(consumers)
            except (MeshUnavailableError, LostWritesError) as error:
                return str(error) if isinstance(error, LostWritesError) else ""
            return ""

        assert "which it had taken" in await eventually(outcome, saying="the loss is noticed", within_s=20)


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


def move_slot(cluster: ClusterOfNodes, partition: int, after: dict[int, Any]) -> int:
    slot, owner = cluster.owner(f"{{t:{partition}}}")
    return cluster.move(slot, owner, after[owner.port])


async def taken(mesh: RedisMesh, batch: Sequence[Any]) -> bool:
    try:
        await publish(mesh, GRAPH, batch)
    except MeshUnavailableError:
        return False
    return True


async def done_by_now(mesh: RedisMesh) -> bool:
    try:
        return await all_is_done(mesh)
    except MeshUnavailableError:
        return False


@asynccontextmanager
async def persistent(service: Worker | Forwarder) -> AsyncIterator[None]:
    """What runs as it does in a deployment: started again when the mesh was away."""
    routine = Routine("under test", service.run, stop=getattr(service, "stop", None))
    await routine.start()
    try:
        yield
    finally:
        await routine.stop()
