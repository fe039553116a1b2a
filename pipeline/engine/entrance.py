"""What a stage's partition lets in where its inputs are narrowed or limited: conditions on events, and shedding.

What is not let in is passed over exactly as an event of a type nobody wants: in its place in the order, without being
decoded again, and the offset moves on.  Stages that simply read their inputs have no entrance and pay nothing for it.

What is shed depends on how much waits, which no replay can repeat; so it is part of the record.  The commit that moves the
offset past what was shed carries an ``EventsShed`` that names it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.engine.inputs import wanted_types
from pipeline.engine.outputs import SHED
from pipeline.engine.progress import Progress
from pipeline.engine.record import Offset, Output, Place, Record, output_for
from pipeline.engine.verdict import Memory
from topology.condition import Condition, ConditionError, Test
from topology.errors import BadInputError
from topology.event import Event, Payload
from topology.graph import Edge, Stage, Stream
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads.operation import EventsShed, TickPassed

_RUNS_PER_REPORT = 200
_TICK = TickPassed.event_type


@dataclass(slots=True)
class _Shedding:
    """One limited input: what goes at which lag, and what was shed and is not reported.

    Attributes:
        waiting: how many events wait, less those passed over since that was measured; None before it was.
        classes: conditions by event type, with the lag above which it is shed what they hold for, before all others.
        ordinary: the lag above which everything else is shed.
        shed: offset, event type, and whether everything since the one before was shed too.
    """

    lag_max: int
    classes: Mapping[str, Sequence[tuple[Test, int]]]
    ordinary: int
    waiting: int | None = None
    shed: deque[tuple[Offset, str, bool]] = field(default_factory=deque)
    joins: bool = False


class Entrance:
    """Use: ``admit`` what is taken in, ``measured`` now and then, ``reports`` with every commit."""

    def __init__(self, stage: Stage, partition: int, progress: Mapping[Place, Progress]) -> None:
        self._stage = stage.id
        self._progress = progress
        self._partition = partition
        self._wanted = wanted_types(stage) - {_TICK}
        self._conditions: dict[str, dict[str, Sequence[Test]]] = {}
        self._limits: dict[str, _Shedding] = {}
        for stream in stage.inputs:
            edge = stage.edges.get(stream.name, Edge())
            looked_at = _conditions_of(stream, edge, self._wanted)
            if looked_at:
                self._conditions[stream.name] = looked_at
            if edge.lag_max is not None and edge.when_full == "shed":
                self._limits[stream.name] = _shedding_of(stream, edge, edge.lag_max, self._wanted)

    @classmethod
    def of(cls, stage: Stage, partition: int, progress: Mapping[Place, Progress]) -> Entrance | None:
        """The entrance of a stage's partition, which has come so far; None where everything is let in."""
        entrance = cls(stage, partition, progress) if stage.edges else None
        return entrance if entrance is not None and entrance.does_something else None

    @property
    def does_something(self) -> bool:
        """Whether there is anything it might not let in."""
        return bool(self._conditions or self._limits)

    @property
    def limited(self) -> list[Place]:
        """The inputs whose lag has to be measured."""
        return [(stream, self._partition) for stream in self._limits]

    @property
    def is_measured(self) -> bool:
        """Whether the lag of every limited input is known."""
        return all(limit.waiting is not None for limit in self._limits.values())

    def measured(self, place: Place, uncommitted: int) -> int:
        """How many events of an input are not committed, while no commit is on its way; answers how many may be."""
        limit, progress = self._limits[place[0]], self._progress[place]
        passed_over = sum(not progress.is_finished(offset) for offset, _, _ in limit.shed)
        limit.waiting = max(0, uncommitted - progress.passed - passed_over)
        return limit.lag_max

    def admit(self, records: Sequence[Record], memory: Memory) -> list[Record]:
        """The same records, and something nobody wants in the place of those that are not let in.

        Args:
            memory: knows which records had begun before a restart; those are not shed.
        """
        return [self._admitted(record, memory) for record in records]

    def reports(self) -> Iterator[Output]:
        """What was shed and is done by now, for the commit that says so."""
        for stream, limit in self._limits.items():
            if limit.shed:
                yield from self._reports(stream, limit, self._progress[stream, self._partition])

    def _admitted(self, record: Record, memory: Memory) -> Record:
        tests = self._conditions.get(record.stream, {}).get(record.event_type)
        let_in = tests is None or _passes(tests, record)
        limit = self._limits.get(record.stream)
        if limit is None:
            return record if let_in else _passed_over(record)
        if not let_in or record.event_type not in self._wanted:
            limit.waiting = limit.waiting - 1 if limit.waiting else limit.waiting  # it takes no time
            return record if let_in else _passed_over(record)
        waiting = limit.waiting or 0
        if waiting <= limit.lag_max or waiting <= _bound(limit, record) or memory.knows(record):
            limit.joins = False
            return record
        limit.waiting = waiting - 1
        limit.shed.append((record.offset, record.event_type, limit.joins))
        limit.joins = True
        return _passed_over(record)

    def _reports(self, stream: str, limit: _Shedding, progress: Progress) -> Iterator[Output]:
        waiting: deque[tuple[Offset, str, bool]] = deque()
        runs: list[tuple[Offset, Offset]] = []
        counts: Counter[str] = Counter()
        broken = False
        for offset, event_type, joins in limit.shed:
            if not progress.is_finished(offset):
                waiting.append((offset, event_type, False))  # the rest of its run is told without it
                broken = True
                continue
            if joins and runs and not broken:
                runs[-1] = (runs[-1][0], offset)
            else:
                if len(runs) == _RUNS_PER_REPORT:
                    yield self._report(stream, limit, runs, counts)
                    runs, counts = [], Counter()
                runs.append((offset, offset))
            broken = False
            counts[event_type] += 1
        limit.shed = waiting
        if runs:
            yield self._report(stream, limit, runs, counts)

    def _report(
        self, stream: str, limit: _Shedding, runs: Sequence[tuple[Offset, Offset]], counts: Mapping[str, int]
    ) -> Output:
        first, last = runs[0][0], runs[-1][1]
        payload = EventsShed(
            stage=self._stage,
            stream=stream,
            partition=self._partition,
            lag_max=limit.lag_max,
            counts=dict(sorted(counts.items())),
            offsets=tuple(f"{one}..{other}" for one, other in runs),
        )
        report: Event[Payload] = Event(
            id=derived_id("shed", self._stage, stream, self._partition, str(first), str(last)),
            timestamp=from_us(last.ms * 1000),
            source=self._stage,
            payload=payload,
        )
        return output_for(SHED, report)


def _conditions_of(stream: Stream, edge: Edge, wanted: frozenset[str]) -> dict[str, Sequence[Test]]:
    """Per event type that is not simply taken, tests of which one must pass; of none, none does."""
    if edge.where is None:
        return {}
    taken = {payload.event_type: [each.for_payload(payload) for each in edge.where[payload]] for payload in edge.where}
    return {
        payload.event_type: taken.get(payload.event_type, ())
        for payload in stream.carries
        if payload.event_type in wanted and (payload not in edge.where or edge.where[payload])
    }


def _shedding_of(stream: Stream, edge: Edge, lag_max: int, wanted: frozenset[str]) -> _Shedding:
    # Each class holds out until twice as much waits as for the one before, so none goes while a lesser one is enough.
    ordinary = lag_max * 2 if edge.shed_first else lag_max
    classes: dict[str, list[tuple[Test, int]]] = {}
    for condition, bound in ((edge.shed_first, lag_max), (edge.shed_last, ordinary * 2)):
        for payload in stream.carries if condition is not None else ():
            test = _for_payload(condition, payload)
            if test is not None and payload.event_type in wanted:
                classes.setdefault(payload.event_type, []).append((test, bound))
    return _Shedding(lag_max, classes, ordinary)


def _for_payload(condition: Condition | None, payload: type[Payload]) -> Test | None:
    try:
        return None if condition is None else condition.for_payload(payload)
    except ConditionError:
        return None  # it speaks of other types


def _passes(tests: Sequence[Test], record: Record) -> bool:
    try:
        event = record.event
    except BadInputError:
        return True  # the stage finds out, and it becomes a dead letter
    return any(test(event) for test in tests)


def _bound(limit: _Shedding, record: Record) -> int:
    """The lag above which a record is shed."""
    classes = limit.classes.get(record.event_type)
    if classes:
        try:
            event = record.event
        except BadInputError:
            return limit.ordinary
        for test, bound in classes:
            if test(event):
                return bound
    return limit.ordinary


def _passed_over(record: Record) -> Record:
    """What takes the record's place: other stages read the record itself."""
    return Record(record.stream, record.partition, record.offset, record.key, "", b"")
