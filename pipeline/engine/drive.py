"""Runs a whole topology step by step, on a clock the caller moves: for tests, replays and backtests.

The same tasks and commits as in production, driven by hand (as Kafka Streams' TopologyTestDriver does); on the memory
mesh every output is a function of the input.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import orjson

from pipeline.engine.asking import Handlers, ask, failed
from pipeline.engine.attempt import AnswerFailedError, OpenQuestion
from pipeline.engine.garbage import look_for_cycles_rarely
from pipeline.engine.inputs import inputs_of
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Commit, Offset, Place, Record, output_for
from pipeline.engine.replaying import PLACE as LETTERS
from pipeline.engine.restoring import restored_task
from pipeline.engine.task import PartitionTask
from pipeline.engine.ticker import ticks
from pipeline.engine.verdict import HaltedError, Memory, MustRestoreError
from topology.event import Event, Payload
from topology.graph import Stage, Topology
from topology.moments import to_us

_LEASE_S = 3600.0 * 24 * 365

Answer = Callable[[Stage, OpenQuestion], Awaitable[Any]]
"""Who answers, as JSON data, where that depends on more than the question."""


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
        answer: who answers them in place of the handlers.

    Attributes:
        made: told of every commit that was made, if set.
        up_to: how far a task may read for now that has several inputs, as (offset, stream) of the first record it may
            not; None for anything there is.
    """

    def __init__(
        self,
        topology: Topology,
        handlers: Handlers | None = None,
        *,
        start_us: int = 0,
        mesh: Mesh | None = None,
        answer: Answer | None = None,
    ) -> None:
        look_for_cycles_rarely()
        self.topology = topology
        self.now_us = start_us
        self.mesh: Mesh = mesh if mesh is not None else MemoryMesh(lambda: self.now_us // 1000)
        self.made: Callable[[Stage, Commit], None] | None = None
        self.up_to: Callable[[Sequence[Place]], tuple[Offset, str] | None] | None = None
        self._handlers = handlers or {}
        self._answer_of = answer or self._ask
        self._ticked_us = start_us
        self._tasks: dict[tuple[str, int], _Held] = {}
        self._order = [(stage, partition) for stage in topology.tasks for partition in range(stage.partitions)]
        self._readers: dict[Place, list[int]] = defaultdict(list)
        for number, (stage, partition) in enumerate(self._order):
            for place in inputs_of(stage, partition):
                self._readers[place].append(number)
        self._due = set(range(len(self._order)))
        self._touched = self.mesh.watch() if isinstance(self.mesh, MemoryMesh) else None

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
        for place in self._take_touched():
            self.wake(place)
        turns = sorted(self._due) if self._touched is not None else list(range(len(self._order)))
        self._due.clear()
        try:
            while turns:
                number = turns[0]
                busy |= await self._step(number, count, answers_max)
                while turns and turns[0] == number:
                    heappop(turns)
                for place in self._take_touched():
                    for reader in self._readers.get(place, ()):
                        if reader <= number:
                            self._due.add(reader)
                        else:
                            heappush(turns, reader)
        finally:
            self._due.update(turns)  # of a round that was broken off
        return busy

    def wake(self, place: Place) -> None:
        """Let those who read a partition look whether there is something for them."""
        self._due.update(self._readers.get(place, ()))

    def crash(self) -> None:
        """Forget everything that is not committed, as a killed process does."""
        self._tasks.clear()
        self._due.update(range(len(self._order)))

    async def events(self, stream: str) -> list[Event[Payload]]:
        """Everything on a stream, ticks aside, in order of offset."""
        places: dict[Place, Offset] = {(stream, partition): BEGINNING for partition in range(self._partitions(stream))}
        found: list[Record] = []
        while records := await self.mesh.read(places, count=10_000, wait_s=0):
            found += records
            places.update({(record.stream, record.partition): record.offset for record in records})
        found.sort(key=lambda record: (record.offset, record.partition))
        return [record.event for record in found if record.event_type != "tick.passed"]

    def _take_touched(self) -> list[Place]:
        if not self._touched:
            return []
        touched = list(self._touched)
        self._touched.clear()
        return touched

    async def _step(self, number: int, count: int, answers_max: int | None) -> bool:
        stage, partition = self._order[number]
        held = await self._hold(stage, partition)
        records = await self._read(number, held, count)
        if not records and not held.task.waiting:
            return False
        held.task.offer(records)
        try:
            await self._process(number, held, count, answers_max)
        except HaltedError:
            del self._tasks[stage.id, partition]
            await self._commit(stage, held)
            raise
        await self._commit(stage, held)
        if held.task.waiting or LETTERS in held.task.positions:
            self._due.add(number)
        return True

    async def _read(self, number: int, held: _Held, count: int) -> list[Record]:
        positions = held.task.positions
        records = await self.mesh.read(positions, count=count, wait_s=0)
        if len(records) >= count or LETTERS in positions:
            self._due.add(number)  # there may be more
        end = self.up_to(list(positions)) if self.up_to is not None and len(positions) > 1 else None
        return records if end is None else [each for each in records if (each.offset, each.stream) < end]

    async def _process(self, number: int, held: _Held, count: int, answers_max: int | None) -> None:
        stage, _ = self._order[number]
        answered = 0
        while True:
            try:
                held.task.step()
            except MustRestoreError:
                held.task = await restored_task(self.mesh, stage, held.lease, held.memory)
                held.task.offer(await self._read(number, held, count))
            held.open += held.task.take_questions()
            while held.open and answered != answers_max:
                question = held.open.popleft()
                held.task.answer(question, await self._answer(stage, held.lease, question))
                answered += 1
            if not held.task.ready:
                return

    async def _commit(self, stage: Stage, held: _Held) -> None:
        commit = held.task.take_commit()
        for fenced in await self.mesh.commit([(held.lease, commit)]):
            if fenced is not None:
                raise fenced
        if self.made is not None:
            self.made(stage, commit)

    async def _ask(self, stage: Stage, question: OpenQuestion) -> Any:
        return await ask(self._handlers, question.question, stage.spec.retry)

    async def _answer(self, stage: Stage, lease: Lease, question: OpenQuestion) -> Any:
        try:
            answer = await self._answer_of(stage, question)
        except AnswerFailedError as known:  # as it failed when it was recorded
            return known
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
