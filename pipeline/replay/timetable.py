"""What of a recording came from outside and what stages concluded, and in which steps it is played again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Record, partition_of
from pipeline.engine.ticker import ticks
from pipeline.recordings.header import Header
from topology.errors import BadInputError
from topology.graph import Stream, Topology
from topology.moments import to_us
from topology.payloads.operation import TickPassed

STEP_MS = 1_000
STEP_RECORDS = 5_000
_ID = b'{"id":"'
_ID_END = len(_ID) + 36
_TICK = TickPassed.event_type
_HOUR_US = 3_600_000_000


class Timetable:
    """Knows for each recorded event whether it is to be put on its stream again, or is to come about again.

    Args:
        ticking: streams whose ticks are recorded; those of other streams are made, at their times.
        streams: only what these streams of the recording said; all by default.

    Attributes:
        concluded: the streams of which the recording says what stages concluded, as this topology has them.
    """

    def __init__(
        self, topology: Topology, header: Header, ticking: Iterable[str], streams: Iterable[str] | None = None
    ) -> None:
        known = {stream.name: stream for stream in (*topology.stored, *OPERATION_STREAMS)}
        read = set(header.streams if streams is None else streams)
        self._streams = {name: stream for name, stream in known.items() if name in read and name in header.streams}
        self._emitted: dict[str, frozenset[str]] = {}
        for stage in topology.stages:
            for payload, stream in stage.routes.items():
                before = self._emitted.get(stream.name, frozenset())
                self._emitted[stream.name] = before | {payload.event_type}
        for stream in OPERATION_STREAMS:
            self._emitted[stream.name] = frozenset(payload.event_type for payload in stream.carries)
        self._moved = {name for name, stream in self._streams.items() if _is_moved(stream, header)}
        self.concluded = {name for name in self._streams if name in self._emitted} - self._moved
        recorded_ticks = (set(ticking) & set(self._streams)) - self._moved
        self._made_ticks = [each for each in topology.stored if each.ticks_us and each.name not in recorded_ticks]
        self._ticked_us: int | None = None

    def steps(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        """What is played together: whole milliseconds, a second at most, and whatever comes from outside between stages first.

        A tick so comes after everything that was concluded before it, also when that is concluded otherwise this time.
        """
        step: list[Record] = []
        begun = False  # with something else than what comes between stages
        for ms, of_one_ms in _by_ms(self._with_ticks(records)):
            full = bool(step) and (ms - step[0].offset.ms >= STEP_MS or len(step) >= STEP_RECORDS)
            between = sum(record.stream in self._emitted and self.is_from_outside(record) for record in of_one_ms)
            if full or (begun and between):
                yield step
                step, begun = [], False
            step += of_one_ms
            begun = begun or between < len(of_one_ms)
        if step:
            yield step

    def is_from_outside(self, record: Record) -> bool:
        """Whether no stage could have put it there."""
        return record.event_type not in self._emitted.get(record.stream, ())

    def _with_ticks(self, records: Iterable[Record]) -> Iterator[Record]:
        """Records where this topology has them, and the ticks that nobody recorded."""
        for record in records:
            placed = self._placed(record)
            if placed is not None:
                if self._made_ticks:
                    yield from self._ticks_until(record.offset.ms)
                yield placed

    def _ticks_until(self, ms: int) -> Iterator[Record]:
        if self._ticked_us is None:
            self._ticked_us = ms * 1000
        while self._ticked_us < ms * 1000:
            until_us = min(ms * 1000, self._ticked_us + _HOUR_US)
            for number, due in enumerate(ticks(self._made_ticks, self._ticked_us, until_us)):
                tick = Record(due.stream, due.partition, BEGINNING, due.key, due.event_type, due.value)
                yield _at(tick, Offset(to_us(tick.event.timestamp) // 1000, number))
            self._ticked_us = until_us

    def _placed(self, record: Record) -> Record | None:
        stream = self._streams.get(record.stream)
        if stream is None or (record.event_type == _TICK and stream in self._made_ticks):
            return None
        if record.stream not in self._moved:
            return record
        if not self.is_from_outside(record):
            return None
        try:
            key = stream.key_of(record.event.payload)
        except (AttributeError, BadInputError):
            key = record.key
        partition = partition_of(key, stream.partitions)
        return Record(record.stream, partition, record.offset, key, record.event_type, record.value)


def id_of(record: Record) -> str:
    """The id of a recorded event; empty when it has none."""
    if record.value.startswith(_ID):
        return record.value[len(_ID) : _ID_END].decode(errors="replace")
    try:
        return str(orjson.loads(record.value)["id"])
    except (KeyError, TypeError, ValueError):
        return ""


def _is_moved(stream: Stream, header: Header) -> bool:
    """Whether keys are in other partitions than they were."""
    recorded = header.streams[stream.name]
    return (recorded.key, recorded.partitions) != (stream.spec.key, stream.partitions)


def _at(record: Record, offset: Offset) -> Record:
    return Record(record.stream, record.partition, offset, record.key, record.event_type, record.value)


def _by_ms(records: Iterable[Record]) -> Iterator[tuple[int, list[Record]]]:
    together: list[Record] = []
    last_ms = 0
    for record in records:
        ms = record.offset.ms
        if ms != last_ms and together:
            yield last_ms, together
            together = []
        last_ms = ms
        together.append(record)
    if together:
        yield last_ms, together
