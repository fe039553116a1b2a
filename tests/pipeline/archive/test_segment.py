"""A segment says exactly what was put into it, or says where it is damaged."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.folder import Archive
from pipeline.archive.segment import DamagedSegmentError, Span, encode_segment, read_header, read_segment
from pipeline.engine.record import BEGINNING, Offset, Record
from tests.pipeline.archive.archiving import told

PLACE = ("signals", 3)


def record(number: int, value: bytes = b'{"a":1}', key: str = "k") -> Record:
    return Record(*PLACE, Offset(1_000 + number, number), key, "metric.sampled", value)


@cache
def long() -> tuple[list[Record], bytes]:
    """Records that fill several frames, and their segment."""
    records = [record(number, b'{"a":"%d"}' % (number**20)) for number in range(4_000)]
    return records, encode_segment(PLACE, records, BEGINNING)


def name_of(records: list[Record]) -> str:
    return str(Span(records[0].offset, records[-1].offset))


def written(folder: Path, records: list[Record]) -> Path:
    return Archive(folder).write(PLACE, records, Offset(7, 7))


values = st.one_of(
    st.binary(),
    st.sampled_from(
        [
            b"",
            b"{}",
            b'{"event":{"a":1.0, "b" : [1e5]}}',
            b'{"a":\r1}',
            b'{"a":\n1}',
            b"NaN",
            b'"\xff"',
            b'{"big":123456789012345678901234567890}',
        ]
    ),
    st.recursive(st.none() | st.text() | st.integers(-(2**53), 2**53), st.lists, max_leaves=5).map(orjson.dumps),
)
keys = st.one_of(st.text(), st.sampled_from(['"', ',"event":', '\\",\\"event\\":{}', "\n", "\r\u2028"]))


@given(st.lists(st.tuples(values, keys), min_size=1, max_size=30))
def test_what_is_read_is_what_was_written_byte_for_byte(contents: list[tuple[bytes, str]]) -> None:
    records = [record(number, value, key) for number, (value, key) in enumerate(contents)]
    with TemporaryDirectory() as folder:
        path = written(Path(folder), records)
        segment = read_segment(path, PLACE)
        assert read_header(path, PLACE) == segment.header
    assert told(segment.records) == told(records)
    assert segment.header is not None
    assert (segment.header.first, segment.header.last) == (records[0].offset, records[-1].offset)
    assert (segment.header.count, segment.header.after) == (len(records), Offset(7, 7))


def test_a_person_can_read_it_with_common_tools(tmp_path: Path) -> None:
    path = written(tmp_path, [record(1), record(2, b"no JSON")])
    with zstandard.open(path, "rt") as file:
        header, *lines = file.read().splitlines()
    assert path.name == "1001-1_1002-2.jsonl.zst"
    assert orjson.loads(header)["count"] == 2
    assert [orjson.loads(line) for line in lines] == [
        {"offset": "1001-1", "key": "k", "type": "metric.sampled", "event": {"a": 1}},
        {"offset": "1002-2", "key": "k", "type": "metric.sampled", "raw": "bm8gSlNPTg=="},
    ]


def test_equal_records_make_equal_files() -> None:
    records = [record(number) for number in range(100)]
    assert encode_segment(PLACE, records, BEGINNING) == encode_segment(PLACE, records, BEGINNING)


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_found_wherever_it_was(cut: float) -> None:
    records, whole = long()
    with TemporaryDirectory() as folder:
        path = Path(folder, name_of(records))
        path.write_bytes(whole[: int(len(whole) * cut)])
        with pytest.raises(DamagedSegmentError, match=path.name):
            read_segment(path, PLACE)
        salvaged = read_segment(path, PLACE, salvage=True)
    assert salvaged.damage
    assert told(salvaged.records) == told(records[: len(salvaged.records)])


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_fell_over_is_found_and_what_comes_before_it_is_good(where: float, bit: int) -> None:
    records, whole = long()
    with TemporaryDirectory() as folder:
        path = Path(folder, name_of(records))
        content = bytearray(whole)
        content[int(len(content) * where)] ^= 1 << bit
        path.write_bytes(content)
        try:
            assert told(read_segment(path, PLACE).records) == told(records)  # a bit of zstd's own that says nothing
        except DamagedSegmentError:
            salvaged = read_segment(path, PLACE, salvage=True)
            assert told(salvaged.records) == told(records[: len(salvaged.records)])


def test_most_of_a_long_file_can_be_salvaged(tmp_path: Path) -> None:
    records, whole = long()
    path = tmp_path / name_of(records)
    path.write_bytes(whole[:-1])
    salvaged = read_segment(path, PLACE, salvage=True)
    assert 2_000 < len(salvaged.records) < 4_000
    assert "ends within the lines after" in salvaged.damage


@pytest.mark.parametrize(
    ("place", "name", "found"),
    [
        (("signals", 4), "1001-1_1002-2.jsonl.zst", "stream and partition is signals/3, expected signals/4"),
        (("findings", 3), "1001-1_1002-2.jsonl.zst", "stream and partition is signals/3, expected findings/3"),
        (PLACE, "1001-1_1009-2.jsonl.zst", "expected 1001-1_1009-2.jsonl.zst"),
    ],
)
def test_a_segment_from_somewhere_else_is_refused(
    tmp_path: Path, place: tuple[str, int], name: str, found: str
) -> None:
    path = written(tmp_path, [record(1), record(2)])
    moved = path.rename(tmp_path / name)
    with pytest.raises(DamagedSegmentError, match=found):
        read_segment(moved, place)
    assert not read_segment(moved, place, salvage=True).records
    with pytest.raises(DamagedSegmentError, match=found):
        read_header(moved, place)


def _framed(*contents: bytes) -> bytes:
    return b"".join(zstandard.compress(content) for content in contents)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not zstd at all",
        _framed(b"no JSON\n"),
        _framed(b"[]\n"),
        _framed(b'{"format":1}\n'),
        _framed(b'{"format":1,"first":5,"last":"","after":""}\n'),
        _framed(b'{"format":1,"stream":"signals","partition":3,"first":"1-1","last":"1-2","after":"0-0","count":"x"}\n'),
        _framed(b'{"format":2,"stream":"signals","partition":3,"first":"1-1","last":"1-2","after":"0-0","count":2,'
                b'"size":9,"sha256":""}\n'),
        _framed(b" " * 50_000_000),
    ],
)  # fmt: skip
def test_any_other_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / str(Span(Offset(1, 1), Offset(1, 2)))
    path.write_bytes(content)
    with pytest.raises(DamagedSegmentError, match=str(path)):
        read_segment(path, PLACE)
    assert read_segment(path, PLACE, salvage=True).records == []


def test_lines_that_are_no_records_are_refused_although_they_are_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / str(Span(Offset(1, 1), Offset(1, 2)))
    header = {"format": 1, "stream": "signals", "partition": 3, "first": "1-1", "last": "1-2", "after": "0-0"}
    for line in (b"{}\n", b"[1]\n", b'{"offset":"1-1","key":"","type":"","raw":"*"}\n', b'{"offset":1}\n'):
        path.write_bytes(_framed(orjson.dumps({**header, "count": 1, "size": 999, "sha256": ""}) + b"\n", line))
        with pytest.raises(DamagedSegmentError, match="expected a record"):
            read_segment(path, PLACE)
