"""Workers and forwarders on a real Redis Cluster, and what must hold of what they put out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pipeline.engine.forwarder import STAGE, Forwarder
from pipeline.engine.keys import OUTBOX
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.record import Commit, Output
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.supervision import Routine
from pipeline.engine.worker import Worker
from tests.contracts.counting import AGENTS
from tests.fixtures.redis_cluster import ClusterOfNodes
from tests.pipeline.engine.working import events, idle, publish
from topology.graph import Topology
from topology.ids import derived_id
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec


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


@asynccontextmanager
async def persistent(service: Worker | Forwarder) -> AsyncIterator[None]:
    """What runs as it does in a deployment: started again when the mesh was away."""
    routine = Routine("under test", service.run, stop=getattr(service, "stop", None))
    await routine.start()
    try:
        yield
    finally:
        await routine.stop()


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


def move_slot(cluster: ClusterOfNodes, partition: int, after: dict[int, Any]) -> int:
    """Hand the slot of a partition's number over to the node that comes after its owner; answers how many keys it had."""
    slot, owner = cluster.owner(f"{{t:{partition}}}")
    return cluster.move(slot, owner, after[owner.port])
