"""Log files, followed by name pattern: rotation, truncation and restarts lose nothing and repeat nothing.

A file is itself wherever it is moved to (device and inode), so a rotation by rename is read to its end before it is left,
also when it happened while nobody looked, as long as the file stayed in its folder.  One that is copied and truncated
loses what was written between the last look and the truncation, at most ``every`` long.

The position is stored after ``publish`` has returned; an entry's id is derived from its place and its first bytes.  So what
is read twice, after a crash, is dropped as known.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatch
from pathlib import Path

from pipeline.security.masking import mask_event
from pipeline.sources.log_entries import Entry, parse_entry
from pipeline.sources.log_file import FollowedFile
from pipeline.sources.log_positions import Position, PositionFile
from pipeline.sources.source import Publish
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.payloads.signals import LogWritten

log = logging.getLogger(__name__)

_BATCH = 500
_LOOK_FOR_FILES_EVERY_S = 0.5
_SILENCE_S = 0.2
"""Nobody pauses that long within an entry."""
_STORE_EVERY_S = 1.0
_AHEAD_MAX = timedelta(minutes=5)
"""A line may not be from further in the future, or it would close every window; then the time of reading counts."""
_FIRST_BYTES = 128


@dataclass(frozen=True, slots=True)
class LogFiles:
    """Which files to follow, and whom they speak for.

    Attributes:
        pattern: an absolute path, with ``*``, ``?``, ``[...]`` or ``**``.
        service: who writes them; empty for the file's name up to its first dot.
        labels: put on every entry.
        zone: of times that name none.
        from_end: skip what was in the files before they were followed for the first time.  Files that appear later are
            always read from their beginning.
    """

    pattern: str
    service: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC
    from_end: bool = True

    def service_of(self, path: Path) -> str:
        """Whom a file speaks for."""
        return self.service or path.name.split(".")[0] or path.name


class LogSource:
    """Follows log files and publishes ``LogWritten``.

    Attributes:
        cut: entries that were too long and were cut.
        unreadable: files that cannot be read, and why.

    Args:
        files: what to follow.  A pattern should not match the rotated copies of its files.
        positions: where to store how far they were read.
        every: the pause between two looks when there was nothing new.
        leave_after: a file that was moved away is left when it has been silent that long.  Its writer may go on in it for
            a while, until somebody tells it to reopen.
        name: the source's id.
    """

    def __init__(
        self,
        files: Iterable[LogFiles],
        *,
        positions: Path,
        every: timedelta = timedelta(milliseconds=100),
        leave_after: timedelta = timedelta(seconds=30),
        name: str = "logs",
    ) -> None:
        self.cut = 0
        self.unreadable: dict[str, str] = {}
        self._patterns = {each.pattern: each for each in files}
        self._stored = PositionFile(positions)
        self._every_s = every.total_seconds()
        self._leave_after_s = leave_after.total_seconds()
        self._name = name
        self._followed: dict[tuple[int, int], tuple[LogFiles, FollowedFile]] = {}

    async def run(self, publish: Publish) -> None:
        """Follow the files until cancelled; see :class:`pipeline.sources.source.Source`."""
        await self._begin()
        looked_at = stored_at = time.monotonic()
        published = stored = self._state()
        try:
            while True:
                now_s = time.monotonic()
                if now_s - looked_at >= _LOOK_FOR_FILES_EVERY_S:
                    looked_at = now_s
                    await self._look_for_files(now_s)
                anything = await self._publish_new(publish, now_s)
                published = self._state()
                if published != stored and now_s - stored_at >= _STORE_EVERY_S:
                    await asyncio.to_thread(self._stored.write, self._patterns, published)
                    stored, stored_at = published, now_s
                await asyncio.sleep(0 if anything else self._every_s)
        finally:
            # What was read but could not be published is not in `published`: it is read again.
            if published != stored:
                self._stored.write(self._patterns, published)
            for _, file in self._followed.values():
                file.close()
            self._followed.clear()

    async def _begin(self) -> None:
        """Open what is there, at the stored positions; files that were rotated away meanwhile come first."""
        now_s = time.monotonic()
        stored = self._stored.read()
        known = {(each.device, each.inode): each for each in stored.files} if stored else {}
        seen_before = set(stored.patterns) if stored else set()
        matches = await asyncio.to_thread(self._matches)
        in_place = {_identity(path) for _, path in matches}
        for identity, position in known.items():
            if identity not in in_place:
                self._find_rotated(position, now_s)
        for files, path in matches:
            self._follow(files, path, known, now_s, from_end=files.from_end and files.pattern not in seen_before)
        # From now on, what is in no position is new and is read from its beginning.
        self._stored.write(self._patterns, self._state())

    def _find_rotated(self, position: Position, now_s: float) -> None:
        """Follow a file to its end that has another name now, such as ``app.log.1``."""
        old = Path(position.path)
        files = next((f for f in self._patterns.values() if fnmatch(position.path, f.pattern)), None)
        if files is None:
            return
        for path in sorted(old.parent.glob(f"{glob.escape(old.name)}*")):
            if _identity(path) == (position.device, position.inode):
                known = {(position.device, position.inode): position}
                self._follow(files, path, known, now_s, from_end=False)
                for _, file in self._followed.values():
                    file.path = old if file.path == path else file.path

    async def _look_for_files(self, now_s: float) -> None:
        current = set()
        for files, path in await asyncio.to_thread(self._matches):
            self._follow(files, path, {}, now_s, from_end=False)
            current.add(_identity(path))
        for identity, (_, file) in self._followed.items():
            file.moved = identity not in current

    def _follow(
        self, files: LogFiles, path: Path, known: Mapping[tuple[int, int], Position], now_s: float, *, from_end: bool
    ) -> None:
        identity = _identity(path)
        if identity is None or identity in self._followed:
            return
        try:
            file = FollowedFile.open(path, now_s=now_s, known=known.get(identity), from_end=from_end)
        except OSError as error:
            if str(path) not in self.unreadable:
                log.warning("cannot read %s: %s", path, error)
            self.unreadable[str(path)] = error.strerror or str(error)
            return
        self.unreadable.pop(str(path), None)
        self._followed[file.device, file.inode] = (files, file)

    def _matches(self) -> list[tuple[LogFiles, Path]]:
        return [
            (files, path)
            for files in self._patterns.values()
            for path in sorted(map(Path, glob.glob(files.pattern, recursive=True)))  # noqa: PTH207 Path.glob takes no absolute pattern
            if path.is_file()
        ]

    async def _publish_new(self, publish: Publish, now_s: float) -> bool:
        """Publish what became complete; whether there was anything."""
        events: list[Event[Payload]] = []
        for identity, (files, file) in list(self._followed.items()):
            entries = file.read(now_s)
            silent_s = now_s - file.last_bytes_at
            left = file.moved and silent_s >= self._leave_after_s
            if not entries and (left or silent_s >= _SILENCE_S):
                entries = file.flush(at_end=left)
            events.extend(self._event(files, file, entry) for entry in entries if entry.text.strip())
            if left:
                file.close()
                del self._followed[identity]
        for begin in range(0, len(events), _BATCH):
            await publish(events[begin : begin + _BATCH])
        return bool(events)

    def _event(self, files: LogFiles, file: FollowedFile, entry: Entry) -> Event[Payload]:
        self.cut += entry.dropped > 0
        observed_at = datetime.now(UTC)
        line = parse_entry(entry.text, zone=files.zone)
        at = line.at if line.at is not None and line.at - observed_at <= _AHEAD_MAX else observed_at
        metadata: dict[str, object] = {"observed_at": observed_at.isoformat()}
        if entry.dropped:
            metadata["cut_bytes"] = entry.dropped
        place = (file.inode, file.generation, entry.offset)
        return mask_event(
            Event(
                id=derived_id("log", *place, entry.text[:_FIRST_BYTES].hex()),
                timestamp=at,
                source=self._name,
                payload=LogWritten(
                    service=files.service_of(file.path),
                    labels=files.labels,
                    message=line.message,
                    level=line.level,
                    origin=str(file.path),
                ),
                metadata=metadata,
            )
        )

    def _state(self) -> list[Position]:
        return [file.position for _, file in self._followed.values()]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # gone since it was listed
        return None
    return status.st_dev, status.st_ino
