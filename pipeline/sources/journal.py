"""A bounded journal on the local disk: what sources heard while the mesh could not take it.

    {folder}/lock                      held by the process that writes
    {folder}/drained                   everything up to this number is in the mesh
    {folder}/dropped.json              what could not be kept, by source
    {folder}/unpublishable.jsonl       what the mesh will never take, such as an event type that is gone
    {folder}/{source}/{number}.jsonl   segments: one line per publication, in order of number across all sources

A line is ``<crc32> <number> <ms> <events> <JSON list of events>``.  It is on the disk when ``append`` returns, so whoever
sent the events may be told that they are taken.  A line that a crash tore was promised to nobody and is cut off; one that
the disk damaged is passed over and counted.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import orjson

from pipeline.sources.journal_files import (
    Line,
    Waiting,
    cut_torn_line,
    read_counts,
    read_if_there,
    replace,
    sync_folder,
    write_all,
)
from topology.errors import AiopsError, RetryableError

JOURNAL = "journal"
"""The journal's folder in the state directory."""
_SEGMENT_BYTES_MAX = 1 << 20
_SEGMENTS_MIN = 16
"""So many fit at least, so that dropping the oldest one is dropping little."""


class JournalFullError(RetryableError):
    """The journal cannot keep it; nothing of it was kept."""


class JournalHeldError(AiopsError):
    """Another process writes this journal."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What becomes of a source's events while the mesh is away.

    Attributes:
        when_full: ``refuse``: the caller is told that they were not taken; ``drop``: the oldest of the least priority are
            given up and counted, for a source that cannot wait; ``wait``: nothing is written, for whoever the source hears
            from keeps it, as a log file does.
        priority: what is dropped first has the lowest.
    """

    when_full: Literal["refuse", "drop", "wait"] = "refuse"
    priority: int = 0


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    last: int
    first_ms: int
    size: int = 0
    events: int = 0


@dataclass(slots=True)
class _Log:
    """The segments of one source, oldest first; lines are appended to the last one while ``file`` is open."""

    name: str
    keeping: Keeping = field(default_factory=Keeping)
    segments: deque[_Segment] = field(default_factory=deque)
    file: FileIO | None = None
    lines: Iterator[Line] | None = None
    next: Line | None = None
    read: int = 0


class Journal:
    """See the module.  Every call may write to the disk: from a coroutine, use a thread, but only one at a time.

    Args:
        bytes_max: what all segments together may take.
        age_max_s: older events of a source that drops are dropped; one that refuses takes no more when it has older ones.

    Attributes:
        waiting: what is not in the mesh yet; looking at it, and at ``dropped``, is safe from anywhere.
        dropped: events that were given up, by source, since the start.
        refusal: why something could not be kept, last.
        damaged: lines that could not be read back.

    Raises:
        JournalHeldError: another process writes there.
        OSError: the folder cannot be used.
    """

    def __init__(
        self, folder: Path, *, bytes_max: int, age_max_s: float, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._segment_max = min(_SEGMENT_BYTES_MAX, bytes_max // _SEGMENTS_MIN)
        self._age_max_ms = int(age_max_s * 1000)
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self.dropped: Counter[str] = Counter()
        self.refusal = ""
        self.damaged = 0
        self._dropped_before = read_counts(folder / "dropped.json")
        self._lock = _hold(folder)
        self._logs: dict[str, _Log] = {}
        self._drained = int(read_if_there(folder / "drained") or b"0")
        self._taken = self._drained
        self._number = self._drained
        for directory in sorted(path for path in folder.iterdir() if path.is_dir()):
            self._open(directory)
        self.waiting = self._waiting()

    def _waiting(self) -> Waiting:
        logs = [log for log in self._logs.values() if log.segments]
        segments = [segment for log in logs for segment in log.segments]
        return Waiting(
            sum(segment.events for segment in segments),
            sum(segment.size for segment in segments),
            min((segment.first_ms for segment in segments), default=0),
            tuple(log.name for log in logs),
        )

    def append(self, source: str, keeping: Keeping, events: Sequence[bytes]) -> bool:
        """Keep one publication: all of it or nothing, on the disk when this returns.

        Args:
            events: encoded, each one JSON.

        Returns:
            False when it was dropped and counted, as its source wants it.

        Raises:
            JournalFullError: it cannot be kept, and its source wants to know.
        """
        log = self._logs.setdefault(source, _Log(source))
        log.keeping = keeping
        line = Line(self._number + 1, self._clock_ms(), tuple(events))
        written = line.write()
        self.refusal = "the oldest make room for others (AIOPS_JOURNAL_MB, AIOPS_JOURNAL_HOURS)"
        reason = self._too_old(log, line.at_ms) or self._no_room(log, len(written)) or self._write(log, line, written)
        self.waiting = self._waiting()
        if not reason:
            return True
        self.refusal = reason
        if keeping.when_full == "refuse":
            msg = f"the journal in {self._folder} cannot take {len(events)} event(s) of {source}: {reason}"
            raise JournalFullError(msg)
        self._count_dropped(source, len(events))
        return False

    def take(self, events_max: int) -> list[Line]:
        """The next publications for the mesh, in the order in which they were kept; at least one when there are any."""
        lines: list[Line] = []
        events = 0
        while events < events_max:
            heads = [(head.number, log) for log in self._logs.values() if (head := self._head(log)) is not None]
            if not heads:
                if not lines and self._taken < self._number:  # what is left is damaged
                    self._taken = self._number
                    self.done()
                break
            number, log = min(heads, key=lambda each: each[0])
            assert log.next is not None  # noqa: S101 it is a head
            lines.append(log.next)
            events += len(log.next.events)
            log.next = None
            self._taken = number
        return lines

    def done(self) -> None:
        """All that was taken is in the mesh."""
        with suppress(OSError):  # a full disk; after a crash some would be published again, and dropped as repetitions
            replace(self._folder / "drained", b"%d" % self._taken)
        self._drained = self._taken
        self._prune()
        self.waiting = self._waiting()

    def set_aside(self, events: Sequence[bytes], reason: str) -> None:
        """Keep for a person what the mesh will never take."""
        with (self._folder / "unpublishable.jsonl").open("ab") as file:
            for event in events:
                file.write(orjson.dumps({"reason": reason, "event": orjson.Fragment(event)}) + b"\n")

    def close(self) -> None:
        """Let another process have it; what it holds stays."""
        self._store_counts()
        for log in self._logs.values():
            self._finish_segment(log)
            log.lines = log.next = None
        os.close(self._lock)

    # --- reading --------------------------------------------------------------------------------------------------

    def _open(self, directory: Path) -> None:
        log = self._logs.setdefault(unquote(directory.name), _Log(unquote(directory.name)))
        for path in sorted(directory.glob("*.jsonl")):
            cut_torn_line(path)
            lines = [line for raw in path.read_bytes().splitlines() if (line := Line.read(raw)) is not None]
            # Whatever was drained is never read again, so numbers go on after the highest one that was ever given.
            self._number = max([self._number, *(line.number for line in lines)])
            left = [line for line in lines if line.number > self._drained]
            if not left:
                path.unlink()
                continue
            size, events = path.stat().st_size, sum(len(line.events) for line in left)
            log.segments.append(_Segment(path, lines[0].number, lines[-1].number, left[0].at_ms, size, events))

    def _lines(self, path: Path) -> Iterator[Line]:
        with path.open("rb") as file:
            for raw in file:
                line = Line.read(raw)
                if line is None:
                    self.damaged += 1
                else:
                    yield line

    def _head(self, log: _Log) -> Line | None:
        while log.next is None:
            if log.lines is None:
                read = max(self._taken, log.read)
                segment = next((each for each in log.segments if each.last > read), None)
                if segment is None:
                    return None
                if segment is log.segments[-1]:
                    self._finish_segment(log)  # what is appended while it is read goes to the next one
                log.lines, log.read = self._lines(segment.path), segment.last
            for line in log.lines:
                if line.number > self._taken:
                    log.next = line
                    break
            else:
                log.lines = None
        return log.next

    def _prune(self) -> None:
        for log in self._logs.values():
            while log.segments and log.segments[0].last <= self._drained:
                if len(log.segments) == 1:
                    self._finish_segment(log)
                log.segments.popleft().path.unlink(missing_ok=True)

    # --- writing --------------------------------------------------------------------------------------------------

    def _write(self, log: _Log, line: Line, written: bytes) -> str:
        """Answers why it could not be written."""
        size_before = log.segments[-1].size if log.file is not None else 0
        try:
            if log.file is None or size_before + len(written) > self._segment_max:
                self._finish_segment(log)
                size_before = 0
                self._begin_segment(log, line)
            assert log.file is not None  # noqa: S101 begun
            write_all(log.file, written)
            os.fsync(log.file.fileno())
        except OSError as error:
            self._undo(log, size_before)
            return f"{error.strerror or error}"
        segment = log.segments[-1]
        segment.last = self._number = line.number
        segment.size += len(written)
        segment.events += len(line.events)
        return ""

    def _begin_segment(self, log: _Log, line: Line) -> None:
        directory = self._folder / quote(log.name, safe="")
        directory.mkdir(exist_ok=True)
        path = directory / f"{line.number:016d}.jsonl"
        log.file = FileIO(path, "x")
        log.segments.append(_Segment(path, line.number, line.number, line.at_ms))
        for folder in (directory, self._folder):
            sync_folder(folder)

    def _undo(self, log: _Log, size_before: int) -> None:
        """Whatever a failed write left behind must not be read back: it was promised to nobody."""
        if log.file is None:
            return
        if size_before:
            os.ftruncate(log.file.fileno(), size_before)
            log.file.seek(size_before)
        else:
            self._finish_segment(log)
            log.segments.pop().path.unlink(missing_ok=True)

    def _finish_segment(self, log: _Log) -> None:
        if log.file is not None:
            log.file.close()
            log.file = None

    # --- bounds ---------------------------------------------------------------------------------------------------

    def _too_old(self, log: _Log, now_ms: int) -> str:
        expired_ms = now_ms - self._age_max_ms
        if log.keeping.when_full == "refuse":
            if log.segments and log.segments[0].first_ms < expired_ms:
                hours = self._age_max_ms / 3_600_000
                return f"its oldest event has waited for more than {hours:g} h (AIOPS_JOURNAL_HOURS)"
            return ""
        for segment in self._at_rest(log):
            if segment.first_ms < expired_ms:
                self._drop(log, segment)
        return ""

    def _no_room(self, log: _Log, size: int) -> str:
        if size > self._bytes_max:
            return f"it is larger than the whole journal may be, {self._bytes_max:,} bytes (AIOPS_JOURNAL_MB)"
        while (held := self._waiting().size) + size > self._bytes_max:
            droppable = [
                (other.keeping.priority, segment.first, other, segment)
                for other in self._logs.values()
                if other.keeping.when_full == "drop"
                and (log.keeping.when_full == "refuse" or other.keeping.priority <= log.keeping.priority)
                for segment in self._at_rest(other)
            ]
            if not droppable:
                return f"it is full, with {held:,} of {self._bytes_max:,} bytes (AIOPS_JOURNAL_MB)"
            _, _, other, segment = min(droppable, key=lambda each: each[:2])
            self._drop(other, segment)
        return ""

    def _at_rest(self, log: _Log) -> list[_Segment]:
        """Segments nothing of which is on its way into the mesh."""
        return [segment for segment in log.segments if segment.first > self._taken]

    def _drop(self, log: _Log, segment: _Segment) -> None:
        if segment is log.segments[-1]:
            self._finish_segment(log)
        log.segments.remove(segment)
        log.lines = log.next = None
        log.read = self._taken
        segment.path.unlink(missing_ok=True)
        self._count_dropped(log.name, segment.events)

    def _count_dropped(self, source: str, events: int) -> None:
        self.dropped = self.dropped + Counter({source: events})  # a new one: somebody may be looking at the old one
        self._store_counts()

    def _store_counts(self) -> None:
        if self.dropped:
            try:
                (self._folder / "dropped.json").write_bytes(orjson.dumps(self._dropped_before + self.dropped))
            except OSError:
                return  # the disk is full: that is why there is something to count


def _hold(folder: Path) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        os.close(descriptor)
        msg = f"another process writes the journal in {folder}; give this one an AIOPS_STATE_DIR of its own"
        raise JournalHeldError(msg) from held
    return descriptor
