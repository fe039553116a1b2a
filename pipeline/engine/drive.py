"""Runs a whole topology step by step, on a clock the caller moves: for tests, replays and backtests.

The same tasks and commits as in production, driven by hand (as Kafka Streams' TopologyTestDriver does); on the memory
mesh every output is a function of the input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.engine.asking import Handlers, ask, failed
from pipeline.engine.attempt import OpenQuestion
from pipeline.engine.garbage import look_for_cycles_rarely
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Place, Record, output_for
from pipeline.engine.restoring import restored_task
from pipeline.engine.task import PartitionTask
from pipeline.engine.ticker import ticks
from pipeline.engine.verdict import HaltedError, Memory, MustRestoreError
from topology.event import Event, Payload
from topology.graph import Stage, Topology
from topology.moments import to_us

_LEASE_S = 3600.0 * 24 * 365


@dataclass(slots=True)
class _Held:
    lease: Lease
    memory: Memory
    task: PartitionTask
    open: deque[OpenQuestion] = field(default_factory=deque)


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
        look_for_cycles_rarely()
        self.topology = topology
        self.now_us = start_us
        self.mesh: Mesh = mesh if mesh is not None else MemoryMesh(lambda: self.now_us // 1000)
        self._handlers = handlers or {}
        self._ticked_us = start_us
        self._tasks: dict[tuple[str, int], _Held] = {}

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

    async def step(self, *, count: int = 500, answers_max: int | None = None) -> bool:
        """Let every task read once and commit once, in declared order; False when there was nothing to do.

        Args:
            count: how many records a task reads of each input.
            answers_max: how many questions of a task are answered now; the others stay open over the commit.
        """
        busy = False
        for stage in self.topology.tasks:
            for partition in range(stage.partitions):
                busy |= await self._step(stage, partition, count, answers_max)
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

    async def _step(self, stage: Stage, partition: int, count: int, answers_max: int | None) -> bool:
        held = await self._hold(stage, partition)
        records = await self.mesh.read(held.task.positions, count=count, wait_s=0)
        if not records and not held.task.waiting:
            return False
        held.task.offer(records)
        try:
            await self._process(stage, held, count, answers_max)
        except HaltedError:
            del self._tasks[stage.id, partition]
            await self._commit(held)
            raise
        await self._commit(held)
        return True

    async def _process(self, stage: Stage, held: _Held, count: int, answers_max: int | None) -> None:
        answered = 0
        while True:
            try:
                held.task.step()
            except MustRestoreError:
                held.task = await restored_task(self.mesh, stage, held.lease, held.memory)
                held.task.offer(await self.mesh.read(held.task.positions, count=count, wait_s=0))
            held.open += held.task.take_questions()
            while held.open and answered != answers_max:
                question = held.open.popleft()
                held.task.answer(question, await self._answer(stage, held.lease, question))
                answered += 1
            if not held.task.ready:
                return

    async def _commit(self, held: _Held) -> None:
        for fenced in await self.mesh.commit([(held.lease, held.task.take_commit())]):
            if fenced is not None:
                raise fenced

    async def _answer(self, stage: Stage, lease: Lease, question: OpenQuestion) -> Any:
        try:
            answer = await ask(self._handlers, question.question, stage.spec.retry)
        except Exception as error:  # noqa: BLE001 - as in the worker: the event becomes a dead letter with this reason
            return failed(question.question, error, stage.spec.retry)
        await self.mesh.record_answer(lease, question.key, orjson.dumps(answer))
        return answer

    async def _hold(self, stage: Stage, partition: int) -> _Held:
        held = self._tasks.get((stage.id, partition))
        if held is not None:
            return held
        lease = await self.mesh.claim(stage.id, partition, "driver", _LEASE_S)
        if lease is None:
            msg = f"{stage.id}/{partition} is owned by somebody else; give the driver a namespace of its own"
            raise FencedError(msg)
        memory = Memory()
        held = _Held(lease, memory, await restored_task(self.mesh, stage, lease, memory))
        self._tasks[stage.id, partition] = held
        return held

    def _partitions(self, stream: str) -> int:
        operation = {stream.name: stream for stream in OPERATION_STREAMS}
        return {**self.topology.streams, **operation}[stream].partitions
