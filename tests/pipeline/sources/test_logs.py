"""Real log files are followed through everything that happens to them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.sources.logs import LogFiles, LogSource
from tests.pipeline.sources.published import Published
from tests.polling import eventually
from topology.errors import RetryableError
from topology.payloads import LogWritten


class Logs:
    """A folder with log files, followed into ``published``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = folder / "app.log"
        self.published = Published()

    def source(self, *, from_end: bool = False, leave_after_s: float = 30) -> LogSource:
        return LogSource(
            [LogFiles(str(self.folder / "*.log"), from_end=from_end)],
            positions=self.folder / "state" / "positions.json",
            every=timedelta(milliseconds=10),
            leave_after=timedelta(seconds=leave_after_s),
        )

    @asynccontextmanager
    async def followed(self, source: LogSource | None = None) -> AsyncIterator[LogSource]:
        source = source or self.source()
        running = asyncio.create_task(source.run(self.published))
        try:
            yield source
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def append(self, *lines: str, path: Path | None = None) -> None:
        with (path or self.app).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    @property
    def messages(self) -> list[str]:
        return [entry.message for entry in self.published.payloads(LogWritten)]

    async def say(self, *messages: str) -> None:
        await eventually(
            lambda: self.messages == list(messages), saying=f"the entries are {messages}", seen=lambda: self.messages
        )


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(tmp_path)


async def test_entries_come_with_time_level_service_and_origin(logs: Logs) -> None:
    logs.append("2026-11-22T14:02:07.123Z ERROR api password=x", "  more")
    async with logs.followed():
        await logs.say("api password=[masked:secret]\n  more")

    [event] = logs.published.events
    assert isinstance(event.payload, LogWritten)
    assert (event.payload.service, event.payload.level, event.payload.origin) == ("app", "error", str(logs.app))
    assert event.timestamp.isoformat() == "2026-11-22T14:02:07.123000+00:00"


async def test_by_default_only_what_is_written_from_now_on_is_read(logs: Logs) -> None:
    logs.append("old")
    async with logs.followed(logs.source(from_end=True)):
        await eventually(lambda: (logs.folder / "state" / "positions.json").exists(), saying="it has begun")
        logs.append("new")
        logs.append("of another", path=logs.folder / "later.log")
        await eventually(lambda: set(logs.messages) == {"new", "of another"}, saying="both", seen=lambda: logs.messages)


async def test_a_restart_goes_on_where_it_stopped(logs: Logs) -> None:
    logs.append("one")
    async with logs.followed():
        await logs.say("one")
    logs.append("two")
    logs.published = Published()  # would take "one" again
    async with logs.followed(logs.source(from_end=True)):
        await logs.say("two")


async def test_what_was_published_but_not_stored_has_the_same_ids_again(logs: Logs) -> None:
    logs.append("one", "two")
    async with logs.followed():
        await logs.say("one", "two")
    (logs.folder / "state" / "positions.json").unlink()
    logs.append("three")
    async with logs.followed():
        await logs.say("one", "two", "three")


async def test_what_could_not_be_published_is_read_again(logs: Logs) -> None:
    logs.append("one")
    logs.published.away = True
    with pytest.raises(RetryableError):
        await logs.source().run(logs.published)
    logs.published.away = False
    async with logs.followed():
        await logs.say("one")


async def test_a_rotation_by_rename_loses_nothing(logs: Logs) -> None:
    async with logs.followed():
        logs.append("begin")
        await logs.say("begin")
        for turn in range(5):
            logs.append(f"{turn}a", f"{turn}b")
            logs.app.replace(logs.folder / "app.log.1")
            logs.append(f"{turn}c", path=logs.folder / "app.log.1")  # its writer has not reopened yet
            logs.append(f"{turn}d")
            await logs.say("begin", *(f"{past}{part}" for past in range(turn + 1) for part in "abcd"))


async def test_a_rotation_while_nobody_looked_loses_nothing(logs: Logs) -> None:
    logs.append("one")
    async with logs.followed():
        await logs.say("one")
    logs.append("two")
    logs.app.replace(logs.folder / "app.log.1")
    logs.append("three")
    async with logs.followed():
        await logs.say("one", "two", "three")
    assert {entry.origin for entry in logs.published.payloads(LogWritten)} == {str(logs.app)}


async def test_a_file_that_is_copied_and_truncated_is_read_from_its_new_beginning(logs: Logs) -> None:
    logs.append("the first", "line")
    async with logs.followed():
        await logs.say("the first", "line")
        shutil.copy(logs.app, logs.folder / "app.log.1")
        with logs.app.open("r+") as file:
            file.truncate()
        logs.append("the first")  # the very same words in the same place
        await logs.say("the first", "line", "the first")


async def test_a_file_that_was_truncated_and_outgrew_its_old_size_is_recognised_by_its_beginning(logs: Logs) -> None:
    logs.append("short")
    async with logs.followed():
        await logs.say("short")
        logs.app.write_text("quite another and longer text\n")
        await logs.say("short", "quite another and longer text")


async def test_half_a_line_waits_for_its_other_half(logs: Logs) -> None:
    async with logs.followed():
        logs.app.write_text("whole\nha")
        await logs.say("whole")
        with logs.app.open("a") as file:
            file.write("lf\n")
        await logs.say("whole", "half")


async def test_a_last_line_that_was_never_ended_comes_when_its_file_is_left(logs: Logs) -> None:
    async with logs.followed(logs.source(leave_after_s=0.3)):
        logs.app.write_text("whole\nthe e")
        await logs.say("whole")
        logs.app.unlink()
        await logs.say("whole", "the e")


async def test_a_very_long_line_is_cut_and_counted(logs: Logs) -> None:
    async with logs.followed() as source:
        logs.append("x" * 1_000_000, "next")
        await eventually(lambda: logs.messages[1:] == ["next"], saying="the next line comes")

    assert source.cut == 1
    assert len(logs.messages[0]) < 100_000


async def test_bytes_that_are_no_text_do_no_harm(logs: Logs) -> None:
    async with logs.followed():
        logs.app.write_bytes(b"\xff\xfe\x00 odd\nfine\n")
        await logs.say("\ufffd\ufffd\ufffd odd", "fine")


async def test_damaged_positions_are_no_reason_to_stop(logs: Logs) -> None:
    (logs.folder / "state").mkdir()
    (logs.folder / "state" / "positions.json").write_bytes(b"{")
    logs.append("one")
    async with logs.followed():
        await logs.say("one")


async def test_many_lines_come_in_order_and_once(logs: Logs) -> None:
    lines = [f"2026-11-22T14:02:07.{number:06d}Z line {number}" for number in range(5_000)]
    logs.append(*lines)
    async with logs.followed():
        await eventually(lambda: len(logs.messages) == 5_000, saying="all have come", seen=lambda: len(logs.messages))

    assert logs.messages == [f"line {number}" for number in range(5_000)]
