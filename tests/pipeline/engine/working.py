"""Workers for tests, and what they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.asking import Handlers
from pipeline.engine.inputs import inputs_of
from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.publisher import Publisher
from pipeline.engine.record import BEGINNING, Offset, Place
from pipeline.engine.worker import Worker
from tests.contracts.counting import AGENTS, Echo
from topology.event import Event, Payload
from topology.graph import Topology
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """Workers that run until the end of the block, and then stop as they do in production."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        await asyncio.gather(*tasks)


async def publish(mesh: Mesh, topology: Topology, events: Sequence[Event[Payload]]) -> int:
    """Put signals on the stream, as a source does."""
    return await Publisher(mesh, topology.streams["signals"])(events)


async def events(mesh: Mesh, topology: Topology, stream: str) -> list[Event[Any]]:
    """Everything on a stream, in order of offset."""
    partitions = {**topology.streams, **{each.name: each for each in OPERATION_STREAMS}}[stream].partitions
    places: dict[Place, Offset] = {(stream, partition): BEGINNING for partition in range(partitions)}
    records = await mesh.read(places, count=100_000, wait_s=0)
    return [record.event for record in sorted(records, key=lambda record: record.offset)]


class Gate:
    """Answers questions, but those it holds back only when it is opened; counts how often each was asked."""

    def __init__(self, *held: str) -> None:
        self._held = set(held)
        self._open = asyncio.Event()
        self.asked: dict[str, int] = {}
        self.cancelled: list[str] = []
        self.at_once = 0
        self._now = 0

    def open(self) -> None:
        """Let everything through."""
        self._open.set()

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        key = question.idempotency_key
        self.asked[key] = self.asked.get(key, 0) + 1
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            if key in self._held or "*" in self._held:
                await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        finally:
            self._now -= 1
        return ExecutionReport(status="succeeded", detail=f"{key} asked {self.asked[key]} time(s)")


def asking(**settings: object) -> Topology:
    """signals -> ask-world -> findings, in one partition."""
    stage = {
        "id": "ask-world",
        "agent": "counting:AskWorld",
        "consumes": "signals",
        "emits": "findings",
        "retry": {"attempts": 3, "first_pause": "10ms"},
        **settings,
    }
    spec = TopologySpec(
        name="asking",
        streams={
            "signals": StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=1),
            "findings": StreamSpec(carries=("AnomalyDetected",), partitions=1),
        },
        stages=(StageSpec.model_validate(stage),),
    )
    return resolve(spec, lambda name: AGENTS[name])


def worker(mesh: Mesh, graph: Topology, handler: Any = None, *, name: str = "one", lease_s: float = 5.0) -> Worker:
    """A worker for all stages; an echo answers, if nobody else does."""
    handlers: Handlers = {ExecuteAction: handler or Echo()}
    return Worker(mesh, graph, handlers, name=name, lease_s=lease_s)


async def idle(mesh: Mesh, graph: Topology) -> bool:
    """Whether nothing waits for any stage."""
    consumers = [
        (stage.id, partition, place)
        for stage in graph.tasks
        for partition in range(stage.partitions)
        for place in inputs_of(stage, partition)
    ]
    return all(lag.waiting == 0 for lag in await mesh.lags(consumers))
