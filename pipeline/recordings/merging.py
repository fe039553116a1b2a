"""Makes one sequence of records of several recordings."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

from pipeline.engine.record import Offset, Record
from pipeline.recordings.header import Header, UnlikeRecordingsError
from pipeline.recordings.reader import Recording


def merged_header(recordings: Sequence[Recording]) -> Header:
    """The header of all together.

    Raises:
        UnlikeRecordingsError: they are of streams that differ.
    """
    return reduce(Header.merged_with, (recording.header for recording in recordings))


def merged(recordings: Iterable[Recording]) -> Iterator[Record]:
    """The records of all, in order; what is in several of them comes once.

    Raises:
        UnlikeRecordingsError: two have different records in one place.
        DamagedRecordingError: one of them is damaged, and not salvaged.
    """
    last: Record | None = None
    for record in heapq.merge(*(recording.records() for recording in recordings), key=_place):
        if last is None or _place(record) != _place(last):
            yield record
            last = record
        elif (record.value, record.key, record.event_type) != (last.value, last.key, last.event_type):
            msg = (
                f"found two different records at {record.stream}/{record.partition} {record.offset}, expected one; "
                f"merge only what one deployment said"
            )
            raise UnlikeRecordingsError(msg)


def _place(record: Record) -> tuple[Offset, str, int]:
    return record.offset, record.stream, record.partition
