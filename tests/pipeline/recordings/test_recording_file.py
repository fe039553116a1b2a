"""A recording says exactly what was put into it, or says where it is not what was written."""

from __future__ import annotations

import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.record import BEGINNING, Offset, Record
from pipeline.recordings.layout import (
    DamagedRecordingError,
    ForeignRecordingError,
    NewerRecordingError,
    RecordingError,
    seal,
)
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import RecordingNotWrittenError, new_recording
from tests.pipeline.recordings.recorded import HEADER, PART, any_records, read, record, told, written
from topology.errors import ConfigurationError
from topology.moments import from_us

RECORDS = [record(number) for number in range(12)]
FEW = RECORDS[:5]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.recording"


@given(any_records(), st.sampled_from([1, 200, 100_000]))
def test_what_is_read_is_what_was_written_byte_for_byte(records: list[Record], block_bytes: int) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder, "a"), records, block_bytes=block_bytes)
        recording = Recording(path)
        assert told(recording.records()) == told(records)
        assert recording.header == HEADER
        assert recording.index is not None
        assert recording.index.records == len(records)
        assert sum(recording.index.streams.values()) == sum(recording.index.types.values()) == len(records)
        again = written(Path(folder, "b"), records, block_bytes=block_bytes)
        assert again.read_bytes() == path.read_bytes()


@given(any_records(), st.integers(0, 9), st.integers(0, 2), st.integers(0, 9))
def test_any_span_is_what_a_reader_of_everything_would_keep(
    records: list[Record], ms: int, seq: int, until_ms: int
) -> None:
    since, until = Offset(ms, seq), Offset(until_ms, 1)
    with TemporaryDirectory() as folder:
        path = written(Path(folder, "a"), records)
        found = told(Recording(path).records(since, until))
        assert found == [each for each in told(records) if since < each[0] <= until]
        without_index = Path(folder, "b")
        without_index.write_bytes(path.read_bytes()[:-1])
        assert told(Recording(without_index, salvage=True).records(since, until)) == found


def test_a_span_is_read_without_what_comes_before_and_after_it(path: Path) -> None:
    content = bytearray(written(path, RECORDS).read_bytes())
    index = Recording(path).index
    assert index is not None
    assert len(index.blocks) > 4
    for block in (index.blocks[1], index.blocks[-1]):
        content[block.at + 4] ^= 1
    path.write_bytes(content)
    inner = told(Recording(path).records(index.blocks[1].last, index.blocks[-2].last))
    assert inner == [each for each in told(RECORDS) if index.blocks[1].last < each[0] <= index.blocks[-2].last]
    with pytest.raises(DamagedRecordingError, match="block 1"):
        read(path)


def test_a_file_that_was_cut_off_anywhere_is_refused_and_what_is_whole_can_be_salvaged(path: Path) -> None:
    whole = written(path, FEW).read_bytes()
    index = Recording(path).index
    assert index is not None
    ends = [block.at for block in index.blocks[1:]] + [_index_at(whole)]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedRecordingError, match=r"bring the file back"):
            read(path)
        if size < ends[0]:
            with pytest.raises(DamagedRecordingError, match="nothing of it can be read"):
                Recording(path, salvage=True)
            continue
        blocks = sum(end <= size for end in ends) - 1
        recording = Recording(path, salvage=True)
        assert told(recording.records()) == told(FEW)[: sum(block.lines for block in index.blocks[1 : blocks + 1])]
        assert recording.damage


def test_any_byte_that_is_another_is_noticed_and_what_comes_before_it_can_be_salvaged(path: Path) -> None:
    whole = written(path, FEW).read_bytes()
    index = Recording(path).index
    assert index is not None
    ends = [block.at for block in index.blocks[1:]] + [_index_at(whole)]
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=path.name):
            read(path)
        if at < ends[0]:
            with pytest.raises(RecordingError):
                Recording(path, salvage=True)
            continue
        blocks = sum(end <= at for end in ends) - 1
        recording = Recording(path, salvage=True)
        assert told(recording.records()) == told(FEW)[: sum(block.lines for block in index.blocks[1 : blocks + 1])]
        assert recording.damage


@given(st.data())
def test_any_piece_that_is_overwritten_left_out_or_put_in_is_noticed(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder, "a"), RECORDS)
        whole = path.read_bytes()
        begin = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(begin, min(begin + 400, len(whole))))
        changed = whole[:begin] + data.draw(st.binary(max_size=400)) + whole[end:]
        path.write_bytes(changed)
        if changed == whole:
            return
        with pytest.raises(RecordingError):
            read(path)
        try:
            salvaged = read(path, salvage=True)
        except RecordingError:
            return
        assert salvaged == told(RECORDS)[: len(salvaged)]


def test_blocks_of_another_recording_do_not_fit_in(tmp_path: Path) -> None:
    mine = written(tmp_path / "a", RECORDS)
    others = written(tmp_path / "b", [record(number, partition=1) for number in range(12)])
    one, other = (Recording(path).index for path in (mine, others))
    assert one is not None
    assert other is not None
    begin, end = one.blocks[2].at, one.blocks[3].at
    foreign = others.read_bytes()[other.blocks[2].at : other.blocks[3].at]
    mine.write_bytes(mine.read_bytes()[:begin] + foreign + mine.read_bytes()[end:])
    with pytest.raises(DamagedRecordingError, match="block 2"):
        read(mine)
    assert read(mine, salvage=True) == told(RECORDS)[: one.blocks[1].lines]


def test_the_header_of_another_recording_does_not_fit_before_it(tmp_path: Path) -> None:
    mine = written(tmp_path / "a", RECORDS)
    size = _header_size(mine)
    headers = [
        HEADER.model_copy(update={"parts": (PART.model_copy(update={"digest": each}),)}) for each in "abcefghijk"
    ]
    others = (written(tmp_path / "b", RECORDS, header=header) for header in headers)
    other = next(path for path in others if _header_size(path) == size).read_bytes()
    mine.write_bytes(other[:size] + mine.read_bytes()[size:])
    with pytest.raises(DamagedRecordingError, match="block 1"):
        Recording(mine)
    assert read(mine, salvage=True) == []


@pytest.mark.parametrize(
    "content", [b"no recording", b"{}\n", zstandard.compress(b'{"format":1}\n'), b"\x00" * 5_000, b"5\n"]
)
def test_another_file_is_refused_also_where_it_is_to_be_salvaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for salvage in (False, True):
        with pytest.raises(ForeignRecordingError, match="expected a recording as `aiops record` makes it"):
            Recording(path, salvage=salvage)


def test_a_seal_of_somebody_else_makes_no_recording(path: Path) -> None:
    path.write_bytes(seal("", {"something": "else"})[0])
    with pytest.raises(ForeignRecordingError, match="something"):
        Recording(path)


def test_a_recording_of_a_later_format_is_refused_whatever_it_looks_like(path: Path) -> None:
    path.write_bytes(seal("", {"aiops-recording": 2, "whatever": []})[0] + b"who knows")
    for salvage in (False, True):
        with pytest.raises(NewerRecordingError, match="found a recording of format 2, expected 1"):
            Recording(path, salvage=salvage)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([record(1, "unheard-of")], "block 1, line 1"),
        ([record(1), record(2, partition=7)], "block 1, line 2"),
    ],
)
def test_lines_that_do_not_belong_there_are_refused_although_they_are_what_was_written(
    path: Path, records: list[Record], found: str
) -> None:
    written(path, records)
    with pytest.raises(DamagedRecordingError, match=found):
        read(path)


@pytest.mark.parametrize("second", [1, 2])
def test_records_that_go_back_are_refused_also_within_a_block_and_between_blocks(path: Path, second: int) -> None:
    for block_bytes in (1, 100_000):
        with new_recording(path, HEADER, block_bytes=block_bytes) as writer:
            writer.add(record(2))
            writer._last = None  # as a writer that is broken would
            writer.add(record(second))
        with pytest.raises(DamagedRecordingError, match="expected the next record"):
            read(path)


def test_records_out_of_order_are_not_written_and_leave_no_file(path: Path) -> None:
    for records in ([record(2), record(1)], [record(1), record(1)]):
        with pytest.raises(ValueError, match="expected them in order"):
            written(path, records)
    assert list(path.parent.iterdir()) == []


def test_a_person_can_read_it_with_common_tools(path: Path) -> None:
    written(path, [record(1), record(2, "answers", value=b"no JSON")])
    with zstandard.open(path, "rt") as file:
        header, *lines = map(orjson.loads, file.read().splitlines())
    assert header["streams"]["signals"] == {"key": "service", "partitions": 3}
    assert [line["stream"] for line in lines] == ["signals", "answers"]
    assert lines[0]["event"]["timestamp"] == "2026-01-01T00:00:01Z"
    assert lines[1]["raw"] == "bm8gSlNPTg=="


def test_the_index_knows_offsets_and_event_times(path: Path) -> None:
    index = Recording(written(path, RECORDS)).index
    assert index is not None
    assert (index.first, index.last) == (Offset(1_000, 0), Offset(1_011, 0))
    times = index.event_times()
    assert times is not None
    assert [from_us(at).second for at in times] == [0, 11]
    empty = Recording(written(path, [])).index
    assert empty is not None
    assert (empty.first, empty.last, empty.event_times(), empty.records) == (BEGINNING, BEGINNING, None, 0)


def test_a_disk_that_does_not_take_it_is_told_and_the_file_of_before_stays(path: Path) -> None:
    before = written(path, RECORDS).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(RecordingNotWrittenError, match="room on the disk"):
            written(path, [record(number) for number in range(200)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(RecordingNotWrittenError, match="is there such a folder"):
        written(path / "b", RECORDS)


def test_a_file_that_is_not_there_is_a_matter_of_configuration(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the recording"):
        Recording(path)


def _index_at(whole: bytes) -> int:
    return int(whole.rsplit(b"-at ", 1)[1])


def _header_size(path: Path) -> int:
    index = Recording(path).index
    assert index is not None
    return index.blocks[1].at
