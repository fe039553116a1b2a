"""Plays a recording through a topology: the tasks and commits of production, on the memory mesh, in recorded time.

What came from outside is put on its stream with the bytes and at the offset it was recorded with.  What stages conclude, and
the recording has too, is put where it was then, so that everything downstream happens in the order in which it happened; what
the recording does not have is put on its stream at once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.engine.drive import Driver
from pipeline.engine.inputs import inputs_of
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.outputs import DEAD_LETTERS
from pipeline.engine.record import BEGINNING, SEQ_MAX, Offset, Output, Place, Record
from pipeline.replay.answers import RecordedAnswers
from pipeline.replay.counts import ReplayCounts, StageCounts
from pipeline.replay.timetable import Timetable, id_of
from topology.graph import Topology
from topology.payloads.operation import TickPassed

LOOK_AHEAD_MS = 60_000
LOOK_AHEAD_RECORDS = 100_000
"""What was concluded so much later than its cause is no longer waited for."""
_AT_ONCE = 1_000_000
_TICK = TickPassed.event_type


class Replay:
    """One replay, from its beginning, with nothing remembered.

    Args:
        said: given every record on a stream, in order of offset, stream and partition, as a recording has them.

    Attributes:
        counts: what came of it so far.
    """

    def __init__(
        self,
        topology: Topology,
        timetable: Timetable,
        answers: RecordedAnswers,
        said: Callable[[Record], None] | None = None,
    ) -> None:
        self.counts = ReplayCounts({stage.id: StageCounts() for stage in topology.tasks})
        self._timetable = timetable
        self._said = said
        self._put: list[Record] = []
        self._expected: dict[str, int] = {}
        self._held: dict[str, deque[Output]] = {}
        self._queues: dict[Place, deque[Record]] = {}
        self._last: dict[Place, Offset] = {}
        self._last_new = BEGINNING
        self._mesh = MemoryMesh(lambda: self._driver.now_us // 1000, put_out=self._put_out)
        self._driver = Driver(topology, mesh=self._mesh, answer=answers.answer)
        self._driver.made = self.counts.committed
        self._driver.up_to = self._first_that_waits
        self._touched = self._mesh.watch()
        self._readers: dict[Place, list[tuple[str, int, Place]]] = {}
        for stage in topology.tasks:
            for partition in range(stage.partitions):
                for place in inputs_of(stage, partition):
                    self._readers.setdefault(place, []).append((stage.id, partition, place))

    async def play(self, records: Iterable[Record]) -> ReplayCounts:
        """Play recorded events, which come in order; answers what came of it.

        Raises:
            HaltedError: a stage gave up an event, and its policy is not to go on.
        """
        for step in self._looking_ahead(self._timetable.steps(records)):
            self._driver.now_us = step[-1].offset.ms * 1000
            self._begin(step)
            await self._run()
            self._tell()
            await self._forget()
        return self.counts

    def _looking_ahead(self, steps: Iterator[list[Record]]) -> Iterator[list[Record]]:
        """Steps, each when it is known what comes for some time after it."""
        ahead: deque[list[Record]] = deque()
        waiting = 0
        for step in steps:
            for record in step:
                if self._is_concluded(record):
                    event = id_of(record)
                    self._expected[event] = self._expected.get(event, 0) + 1
            ahead.append(step)
            waiting += len(step)
            while waiting > LOOK_AHEAD_RECORDS or ahead[0][-1].offset.ms < step[-1].offset.ms - LOOK_AHEAD_MS:
                if len(ahead) == 1:
                    break
                waiting -= len(ahead[0])
                yield ahead.popleft()
        yield from ahead

    def _begin(self, step: Sequence[Record]) -> None:
        fed: dict[Place, list[Record]] = {}
        for record in step:
            place = record.stream, record.partition
            if place in self._queues:
                self._queues[place].append(record)
            elif self._is_concluded(record):
                self._queues[place] = deque([record])
            elif place in fed:
                fed[place].append(record)
            else:
                fed[place] = [record]
        for place, records in fed.items():
            self._feed(place, records)

    async def _run(self) -> None:
        while True:
            await self._driver.run_until_idle(count=_AT_ONCE)
            if not self._queues:
                return
            released = [self._release(place) for place in list(self._queues)]
            if not any(released):
                self._pass_over()

    def _release(self, place: Place) -> bool:
        """Put on a partition what has its turn there."""
        queue = self._queues[place]
        released = False
        while queue:
            record = queue[0]
            if self._is_concluded(record):
                output = self._take_held(id_of(record))
                if output is None:
                    return released
                self._append(record, output)
            else:
                self._feed(place, [record])
            queue.popleft()
            released = True
        del self._queues[place]
        return released

    def _pass_over(self) -> None:
        """Wait no longer for the first of those conclusions that nothing is left to come of."""
        place = min(self._queues, key=lambda each: (self._queues[each][0].offset, each))
        queue = self._queues[place]
        self._no_longer_expect(id_of(queue.popleft()))
        self.counts.missing += 1
        if not queue:
            del self._queues[place]
        self._driver.wake(place)

    def _is_concluded(self, record: Record) -> bool:
        return record.stream in self._timetable.concluded and not self._timetable.is_from_outside(record)

    def _put_out(self, output: Output) -> None:
        if output.id in self._expected:
            self._held.setdefault(output.id, deque()).append(output)
            return
        self.counts.new += output.stream in self._timetable.concluded
        place = output.stream, output.partition
        ms = self._driver.now_us // 1000
        after = max(self._last_new, self._last.get(place, BEGINNING))
        offset = Offset(ms, 0) if after < Offset(ms, 0) else Offset(after.ms, after.seq + 1)
        self._last_new = offset
        self._put_record(Record(output.stream, output.partition, offset, output.key, output.event_type, output.value))

    def _take_held(self, event: str) -> Output | None:
        held = self._held.get(event)
        if held is None:
            return None
        output = held.popleft()
        if not held:
            del self._held[event]
        self._no_longer_expect(event)
        return output

    def _no_longer_expect(self, event: str) -> None:
        self._expected[event] -= 1
        if not self._expected[event]:
            del self._expected[event]

    def _append(self, recorded: Record, output: Output) -> None:
        if output.value == recorded.value:
            self.counts.again += 1
        else:
            self.counts.different += 1
        self._put_record(
            Record(recorded.stream, recorded.partition, recorded.offset, output.key, output.event_type, output.value)
        )

    def _feed(self, place: Place, records: Sequence[Record]) -> None:
        """Put what came from outside on a partition, in order."""
        types = Counter(record.event_type for record in records)
        self.counts.fed[place[0]] += len(records)
        self.counts.types.update(types)
        if _TICK in types:
            for stage, _, _ in self._readers.get(place, ()):
                self.counts.stages[stage].ticks += types[_TICK]
        if records[0].offset <= self._last.get(place, BEGINNING):
            for record in records:
                self._put_record(record)
            return
        self._last[place] = records[-1].offset
        self._mesh.put_all(place, records)
        if self._said is not None:
            self._put += records

    def _put_record(self, record: Record) -> None:
        place = record.stream, record.partition
        last = self._last.get(place, BEGINNING)
        if record.offset <= last:  # behind something that the recording does not have
            offset = Offset(last.ms, last.seq + 1)
            record = Record(*place, offset, record.key, record.event_type, record.value)
        self._last[place] = record.offset
        self._mesh.put_all(place, [record])
        if self._said is not None:
            self._put.append(record)

    def _first_that_waits(self, places: Sequence[Place]) -> tuple[Offset, str] | None:
        waiting = [(self._queues[place][0].offset, place[0]) for place in places if place in self._queues]
        return min(waiting, default=None)

    def _tell(self) -> None:
        if self._said is None:
            return
        for record in sorted(self._put, key=lambda each: (each.offset, each.stream, each.partition)):
            self._said(record)
        self._put.clear()

    async def _forget(self) -> None:
        """Of what was read and committed nothing stays in memory; dead letters do, for they may be replayed."""
        for place in list(self._touched):
            if place[0] != DEAD_LETTERS.name:
                readers = self._readers.get(place)
                done = min(await self._mesh.committed(readers)) if readers else Offset(SEQ_MAX, 0)
                await self._mesh.trim(place, Offset(done.ms, done.seq + 1))
        self._touched.clear()
