"""Recordings for tests: what is in them, and what is read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import strategies as st

from pipeline.engine.record import Offset, Record
from pipeline.recordings.header import Header, Part, RecordedStream
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import new_recording
from tests.strategies import events
from topology.codec import encode

Told = tuple[Offset, str, int, str, str, bytes]

PART = Part(recorded_at=datetime(2026, 1, 1, tzinfo=UTC), topology="loop", digest="d")
HEADER = Header(
    streams={
        "answers": RecordedStream(key="stage", partitions=1),
        "signals": RecordedStream(key="service", partitions=3),
    },
    schemas={"metric.sampled": 1},
    parts=(PART,),
)
EVENT = b'{"id":"%d","timestamp":"2026-01-01T00:00:%02dZ","payload":{}}'


def record(number: int, stream: str = "signals", partition: int = 0, value: bytes | None = None) -> Record:
    """A record that says its number; the lowest bits of random-looking text keep it from being compressed away."""
    said = EVENT % (number**9, number % 60) if value is None else value
    return Record(stream, partition, Offset(1_000 + number, 0), f"k{number}", "metric.sampled", said)


def told(records: Iterable[Record]) -> list[Told]:
    """Everything records say, to compare."""
    return [(r.offset, r.stream, r.partition, r.key, r.event_type, r.value) for r in records]


def written(path: Path, records: Sequence[Record], *, header: Header = HEADER, block_bytes: int = 300) -> Path:
    """A recording of these records in small blocks."""
    with new_recording(path, header, block_bytes=block_bytes) as writer:
        for each in records:
            writer.add(each)
    return path


def read(path: Path, *, salvage: bool = False) -> list[Told]:
    """All of it."""
    return told(Recording(path, salvage=salvage).records())


_VALUES = st.one_of(
    events().map(encode),
    st.binary(max_size=40),
    st.sampled_from([b"", b"{}", b'{"event":{"timestamp":5}}', b'{"a":\n1}', b"NaN", b'{"timestamp":"0001-01-01"}']),
)


@st.composite
def any_records(draw: st.DrawFn) -> list[Record]:
    """Records of the streams of ``HEADER``, in order: any events, known or not, and what is no event at all."""
    places = draw(
        st.lists(
            st.tuples(
                st.builds(Offset, st.integers(1, 9), st.integers(0, 2)),
                st.sampled_from([("answers", 0), ("signals", 0), ("signals", 1), ("signals", 2)]),
            ),
            unique=True,
            max_size=25,
        )
    )
    return [
        Record(*place, offset, draw(st.text(max_size=5)), draw(st.text(max_size=9)), draw(_VALUES))
        for offset, place in sorted(places)
    ]
