"""Real files: each event once, whole lines only, and a full disk is no loss."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.sinks.recording import RecordingSink
from pipeline.sources.recordings import read_recording
from topology.errors import RetryableError
from topology.event import Event
from topology.ids import derived_id
from topology.payloads import LogWritten


def event(number: int) -> Event[LogWritten]:
    return Event(
        id=derived_id("test", number),
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        source="test",
        payload=LogWritten(service="a", message=f"number {number}"),
    )


@contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


async def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    sink = RecordingSink(tmp_path / "new" / "events.jsonl")
    await sink.open()
    await sink.write([event(1), event(2)])
    await sink.write([event(3)])
    await sink.close()

    assert list(read_recording(tmp_path / "new" / "events.jsonl")) == [event(1), event(2), event(3)]
    assert sink.written == 3


async def test_a_batch_that_comes_again_is_written_once_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        sink = RecordingSink(path)
        await sink.open()
        await sink.write([event(1), event(2), event(1)])
        await sink.write([event(2), event(3)])
        await sink.close()

    assert list(read_recording(path)) == [event(1), event(2), event(3)]


async def test_half_a_line_left_by_a_crash_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = RecordingSink(path)
    await sink.open()
    await sink.write([event(1)])
    await sink.close()
    with path.open("ab") as file:
        file.write(b'{"id": "half')

    await sink.open()
    await sink.write([event(2)])
    await sink.close()

    assert list(read_recording(path)) == [event(1), event(2)]


async def test_while_the_disk_is_full_nothing_of_a_batch_is_written_and_later_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = RecordingSink(path)
    await sink.open()
    await sink.write([event(1)])
    with full_disk_after(path.stat().st_size + 100), pytest.raises(RetryableError, match="room on the disk"):
        await sink.write([event(2), event(3)])

    assert list(read_recording(path)) == [event(1)]
    await sink.write([event(2), event(3)])
    await sink.close()
    assert list(read_recording(path)) == [event(1), event(2), event(3)]


async def test_a_folder_that_cannot_be_made_is_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RetryableError, match="cannot write the recording"):
        await RecordingSink(tmp_path / "file" / "events.jsonl").open()
