"""``aiops recording``: what is in a recording, a part of it, and several as one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.recording import filtered
from pipeline.engine.record import Offset, Record
from pipeline.recordings.header import Header, RecordedStream
from pipeline.recordings.reader import Recording
from tests.pipeline.commands.calling import call, call_json
from tests.pipeline.recordings.recorded import HEADER, PART, any_records, read, record, told, written
from tests.strategies import events
from topology.codec import encode
from topology.event import Event, Payload
from topology.payloads import LogWritten, MetricSampled
from topology.payloads.operation import AnswerRecorded, TickPassed

RECORDS = [record(number, *(("answers", 0) if number % 5 == 4 else ("signals", number % 3))) for number in range(20)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "a.recording", RECORDS)


def test_info_says_what_is_in_it(file: Path) -> None:
    result = call("recording", "info", file)
    assert result.exit_code == 0
    for said in ("20 events", "whole", "of topology loop", "signals", "3 partitions by service", "metric.sampled"):
        assert said in result.stdout
    said = call_json("recording", "info", file, "--json")
    assert (said["records"], said["first"], said["last"]) == (20, "1000-0", "1019-0")
    assert said["counts"] == {"answers": 4, "signals": 16}
    assert said["happened_to"] == "2026-01-01T00:00:19Z"
    assert said["parts"][0]["digest"] == "d"
    assert said["damage"] is None


def test_an_empty_recording_has_nothing_to_say_and_is_whole(tmp_path: Path) -> None:
    said = call_json("recording", "info", written(tmp_path / "a", []), "--json")
    assert (said["records"], said["first"], said["happened_from"], said["damage"]) == (0, None, None, None)


def test_event_types_of_others_and_of_later_releases_are_kept_and_reported(tmp_path: Path) -> None:
    header = HEADER.model_copy(update={"schemas": {"metric.sampled": 99, "dream.dreamt": 1}})
    dream = Record("signals", 0, RECORDS[0].offset, "k", "dream.dreamt", b'{"event_type":"dream.dreamt"}')
    file = written(tmp_path / "a", [dream, *RECORDS[1:]], header=header)
    assert call_json("recording", "info", file, "--json")["unknown"] == {"metric.sampled": 19, "dream.dreamt": 1}
    assert "unknown to this release, kept as it is" in call("recording", "info", file).stdout
    report = call_json("recording", "cut", file, "--out", tmp_path / "b", "--where", "log.*", "--json")
    assert report["unknown"] == {"metric.sampled": 19, "dream.dreamt": 1}
    assert read(tmp_path / "b") == read(file)


def test_damage_is_named_and_what_is_before_it_can_be_had(file: Path, tmp_path: Path) -> None:
    index = Recording(file).index
    assert index is not None
    content = bytearray(file.read_bytes())
    content[index.blocks[3].at + 200] ^= 1
    file.write_bytes(content)
    good = sum(block.lines for block in index.blocks[1:3])
    verbs: list[list[str | Path]] = [
        ["info", file],
        ["cut", file, "--out", tmp_path / "b"],
        ["merge", file, "--out", tmp_path / "b"],
    ]
    for verb in verbs:
        result = call("recording", *verb)
        assert result.exit_code == 1
        assert f"{file}, block 3 (byte {index.blocks[3].at:,})" in result.stderr
    assert not (tmp_path / "b").exists()
    assert "block 3" in call_json("recording", "info", file, "--salvage", "--json")["damage"]
    result = call("recording", "cut", file, "--out", tmp_path / "b", "--salvage")
    assert result.exit_code == 0
    assert "salvaged: " in result.stderr
    assert read(tmp_path / "b") == told(RECORDS)[:good]


@pytest.mark.parametrize("salvage", [[], ["--salvage"]])
def test_another_file_is_refused(tmp_path: Path, salvage: list[str]) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no recording")
    result = call("recording", "info", file, *salvage)
    assert result.exit_code == 1
    assert "expected a recording as `aiops record` makes it" in result.stderr


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--from", "5ms", "--to", "10ms"], range(5, 10)),
        (["--from", "10000-0"], range(0)),
        (["--to", "1970-01-01T00:00:01.003Z"], range(3)),
        (["--from", "1970-01-01T00:00:01.018Z"], range(18, 20)),
    ],
)
def test_a_part_is_cut_out_by_time_or_offset(file: Path, tmp_path: Path, options: list[str], kept: range) -> None:
    out = tmp_path / "b.recording"
    assert call("recording", "cut", file, "--out", out, *options).exit_code == 0
    assert read(out) == told(RECORDS[kept.start : kept.stop])


def test_answers_are_kept_with_the_streams_that_are_asked_for(tmp_path: Path) -> None:
    streams = {**HEADER.streams, "findings": RecordedStream(key="system", partitions=1)}
    records = [*RECORDS, record(30, "findings")]
    file = written(tmp_path / "a", records, header=HEADER.model_copy(update={"streams": streams}))
    call_json("recording", "cut", file, "--out", tmp_path / "b", "--streams", "findings", "--json")
    assert read(tmp_path / "b") == [each for each in told(records) if each[1] != "signals"]
    assert list(Recording(tmp_path / "b").header.streams) == ["answers", "findings"]
    result = call("recording", "cut", file, "--out", tmp_path / "c", "--streams", "findigs")
    assert result.exit_code == 2
    assert "expected some of answers, findings, signals" in result.stderr


def test_a_cut_says_what_it_was_cut_by(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    call_json("recording", "cut", file, "--out", out, "--from", "5ms", "--to", "9ms", "--where", "metric.*", "--json")
    again = tmp_path / "c"
    call_json("recording", "cut", out, "--out", again, "--to", "1h", "--where", "payload.value > 1", "--json")
    [part] = Recording(again).header.parts
    [before] = Recording(out).header.parts
    assert (part.since, part.until) == (before.since, before.until)
    assert (before.since, before.until) == (Offset(1_004, 2**64 - 1), Offset(1_008, 2**64 - 1))
    assert part.filters == ("metric.*", "payload.value > 1")


@given(st.lists(events(MetricSampled) | events(LogWritten) | events(TickPassed) | events(AnswerRecorded), max_size=9))
def test_a_filter_keeps_what_is_asked_for_and_what_a_replay_cannot_do_without(found: list[Event[Payload]]) -> None:
    keep = filtered("payload.value > 0", [MetricSampled, LogWritten, TickPassed, AnswerRecorded], HEADER)
    for event in found:
        kept = keep(Record("signals", 0, RECORDS[0].offset, "", event.event_type, encode(event)))
        payload = event.payload
        assert kept == (
            payload.value > 0 if isinstance(payload, MetricSampled) else not isinstance(payload, LogWritten)
        )


@given(any_records(), st.data())
def test_parts_that_overlap_merge_to_the_whole(records: list[Record], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        whole = written(Path(folder, "a"), records)
        parts = []
        for number, kept in enumerate(data.draw(st.lists(st.sets(st.integers(0, 24)), min_size=1, max_size=3))):
            chosen = [each for at, each in enumerate(records) if at in kept]
            parts.append(written(Path(folder, f"part{number}"), chosen))
        rest = written(Path(folder, "rest"), records[:: data.draw(st.integers(1, 3))])
        out = Path(folder, "out")
        result = call("recording", "merge", *parts, rest, whole, "--out", out)
        assert result.exit_code == 0, result.output
        assert read(out) == told(records)
        assert out.read_bytes() == _in_large_blocks(whole, records)


def _in_large_blocks(whole: Path, records: list[Record]) -> bytes:
    return written(whole.with_name("large"), records, block_bytes=1 << 18).read_bytes()


def test_recordings_of_different_deployments_are_not_merged(file: Path, tmp_path: Path) -> None:
    header = Header(streams={"signals": RecordedStream(key="service", partitions=4)}, schemas={}, parts=(PART,))
    other = written(tmp_path / "b", [], header=header)
    result = call("recording", "merge", file, other, "--out", tmp_path / "c")
    assert result.exit_code == 1
    assert "found stream 'signals' as key='service' partitions=3 and as key='service' partitions=4" in result.stderr
    later = written(tmp_path / "d", [], header=HEADER.model_copy(update={"schemas": {"metric.sampled": 2}}))
    assert call("recording", "merge", file, later, "--out", tmp_path / "c").exit_code == 1
    clash = written(tmp_path / "e", [record(3, "signals", 0, b"something else")])
    result = call("recording", "merge", file, clash, "--out", tmp_path / "c")
    assert result.exit_code == 1
    assert "found two different records at signals/0 1003-0" in result.stderr
    assert not (tmp_path / "c").exists()


def test_a_file_that_is_there_is_replaced_only_when_somebody_says_so(file: Path) -> None:
    for verb in ("cut", "merge"):
        before = file.read_bytes()
        result = call("recording", verb, file, "--out", file)
        assert (result.exit_code, file.read_bytes()) == (2, before)
        assert call("recording", verb, file, "--out", file, "--force").exit_code == 0
        assert read(file) == told(RECORDS)
