"""What was recorded is read again, and damage is told with its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.sources.recordings import DamagedRecordingError, RecordingSource, read_recording
from tests.pipeline.sources.published import Published
from topology.codec import encode
from topology.errors import ConfigurationError
from topology.event import Event
from topology.ids import derived_id
from topology.payloads import LogWritten


def events(count: int) -> list[Event[LogWritten]]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Event(
            id=derived_id("test", n), timestamp=at, source="test", payload=LogWritten(service="a", message=f"line\n{n}")
        )
        for n in range(count)
    ]


def recording(folder: Path, *lines: bytes) -> Path:
    path = folder / "events.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def lines(count: int) -> list[bytes]:
    return [encode(event) + b"\n" for event in events(count)]


async def test_a_recording_is_published_in_order_and_ends(tmp_path: Path) -> None:
    published = Published()
    source = RecordingSource(recording(tmp_path, *lines(1_200)))

    await source.run(published)

    assert published.events == events(1_200)
    assert (source.published, published.calls) == (1_200, 3)


async def test_published_again_it_adds_nothing(tmp_path: Path) -> None:
    published = Published()
    for _ in range(2):
        await RecordingSource(recording(tmp_path, *lines(3))).run(published)

    assert len(published.events) == 3


async def test_damage_is_told_by_line_after_what_comes_before_it(tmp_path: Path) -> None:
    published = Published()
    path = recording(tmp_path, *lines(3), b"\n", b'{"id": 5}\n', *lines(1))

    with pytest.raises(DamagedRecordingError, match="line 5: ") as damaged:
        await RecordingSource(path).run(published)

    assert damaged.value.line == 5
    assert len(published.events) == 3


def test_the_line_that_a_recorder_died_in_is_not_damage(tmp_path: Path) -> None:
    whole, half = lines(2)

    assert len(list(read_recording(recording(tmp_path, whole, half[:-20])))) == 1
    assert len(list(read_recording(recording(tmp_path, whole, half[:-1])))) == 2


def test_a_recording_that_is_not_there_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the recording"):
        list(read_recording(tmp_path / "none.jsonl"))
