"""Runs a whole topology step by step, on a clock the caller moves: for tests, replays and backtests.

The same tasks and commits as in production, driven by hand (as Kafka Streams' TopologyTestDriver does); on the memory
mesh every output is a function of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.engine.asking import Handlers, ask
from pipeline.engine.attempt import OpenQuestion
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Place, Record, output_for
from pipeline.engine.task import Memory, MustRestoreError, PartitionTask, failed, inputs_of
from pipeline.engine.ticker import ticks
from topology.event import Event, Payload
from topology.graph import Stage, Topology
from topology.moments import to_us

_LEASE_S = 3600.0 * 24 * 365


class Driver:
    """One owner of every partition of every stage.

    Args:
        handlers: who answers the agents' questions.
        start_us: where the clock stands first.
        mesh: by default a memory mesh on this driver's clock.
    """

    def __init__(
        self, topology: Topology, handlers: Handlers | None = None, *, start_us: int = 0, mesh: Mesh | None = None
    ) -> None:
        self.topology = topology
        self.now_us = start_us
        self.mesh: Mesh = mesh if mesh is not None else MemoryMesh(lambda: self.now_us // 1000)
        self._handlers = handlers or {}
        self._ticked_us = start_us
        self._tasks: dict[tuple[str, int], tuple[Lease, Memory, PartitionTask]] = {}

    async def publish(self, stream: str, events: Sequence[Event[Payload]]) -> int:
        """Put events on a stream, as a source does; answers how many were new."""
        return await self.mesh.publish([output_for(self.topology.streams[stream], event) for event in events])

    async def play(self, stream: str, events: Sequence[Event[Payload]]) -> None:
        """Put events on a stream each at its own time, with the ticks that fall between, and process them."""
        for event in events:
            await self.advance_to(max(self.now_us, to_us(event.timestamp)))
            await self.publish(stream, [event])
            await self.run_until_idle()

    async def advance_to(self, at_us: int) -> None:
        """Let time pass: every tick is put on the streams at its time and processed before the next one."""
        await self.run_until_idle()
        for output in ticks(self.topology.streams.values(), self._ticked_us, at_us):
            tick_us = to_us(Record("", 0, BEGINNING, "", "", output.value).event.timestamp)
            if tick_us > self.now_us:
                await self.run_until_idle()
                self.now_us = tick_us
            await self.mesh.publish([output])
        self._ticked_us = max(self._ticked_us, at_us)
        self.now_us = max(self.now_us, at_us)
        await self.run_until_idle()

    async def run_until_idle(self, *, count: int = 500) -> None:
        """Process everything there is, and everything that leads to."""
        while await self.step(count=count):
            pass

    async def step(self, *, count: int = 500) -> bool:
        """Let every task read once and commit once, in declared order; False when there was nothing to do."""
        busy = False
        for stage in self.topology.stages:
            for partition in range(stage.partitions):
                busy |= await self._step(stage, partition, count)
        return busy

    def crash(self) -> None:
        """Forget everything that is not committed, as a killed process does."""
        self._tasks.clear()

    async def events(self, stream: str) -> list[Event[Payload]]:
        """Everything on a stream, ticks aside, in order of offset."""
        places: dict[Place, Offset] = {(stream, partition): BEGINNING for partition in range(self._partitions(stream))}
        found: list[Record] = []
        while records := await self.mesh.read(places, count=10_000, wait_s=0):
            found += records
            places.update({(record.stream, record.partition): record.offset for record in records})
        found.sort(key=lambda record: (record.offset, record.partition))
        return [record.event for record in found if record.event_type != "tick.passed"]

    async def _step(self, stage: Stage, partition: int, count: int) -> bool:
        lease, memory, task = await self._task(stage, partition)
        records = await self.mesh.read(task.positions, count=count, wait_s=0)
        if not records and not task.waiting:
            return False
        task.offer(records)
        while True:
            try:
                task.step()
            except MustRestoreError:
                task = (await self._restore(stage, partition, lease, memory))[2]
                task.offer(await self.mesh.read(task.positions, count=count, wait_s=0))
            questions = task.take_questions()
            if not questions and not task.ready:
                break
            for question in questions:
                task.answer(question, await self._answer(stage, lease, question))
        for fenced in await self.mesh.commit([(lease, task.take_commit())]):
            if fenced is not None:
                raise fenced
        return True

    async def _answer(self, stage: Stage, lease: Lease, question: OpenQuestion) -> Any:
        try:
            answer = await ask(self._handlers, question.question, stage.spec.retry)
        except Exception as error:  # noqa: BLE001 - as in the worker: the event becomes a dead letter with this reason
            return failed(question, error)
        await self.mesh.record_answer(lease, question.key, orjson.dumps(answer))
        return answer

    async def _task(self, stage: Stage, partition: int) -> tuple[Lease, Memory, PartitionTask]:
        held = self._tasks.get((stage.id, partition))
        if held is not None:
            return held
        lease = await self.mesh.claim(stage.id, partition, "driver", _LEASE_S)
        if lease is None:
            msg = f"{stage.id}/{partition} is owned by somebody else; give the driver a namespace of its own"
            raise FencedError(msg)
        return await self._restore(stage, partition, lease, Memory())

    async def _restore(
        self, stage: Stage, partition: int, lease: Lease, memory: Memory
    ) -> tuple[Lease, Memory, PartitionTask]:
        restored = await self.mesh.restore(lease, inputs_of(stage, partition))
        task = PartitionTask(stage, partition, restored, memory)
        await task.agent.initialize()
        self._tasks[stage.id, partition] = lease, memory, task
        return lease, memory, task

    def _partitions(self, stream: str) -> int:
        operation = {stream.name: stream for stream in OPERATION_STREAMS}
        return {**self.topology.streams, **operation}[stream].partitions
