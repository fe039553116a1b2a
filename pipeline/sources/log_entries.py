"""Bytes of a log file to entries, and an entry to what it says: pure, no files here.

An entry is one line and those that continue it: indented lines, tracebacks and their causes, and, when the entry began with
a time, every line that does not begin with one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from topology.payloads.signals import LogLevel

ENTRY_BYTES_MAX = 64 * 1024
"""More of one entry tells nothing more; the rest of it is dropped and counted."""

_TIME = re.compile(
    r"\[?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|UTC|[+-]\d\d:?\d\d)?\]?(?=[\s|,;:]|$)[\s|,;:]*"
)
_TIME_START = re.compile(rb"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_CONTINUATION = re.compile(
    rb"\s|Traceback \(most recent call last\)|Caused by:|\.\.\. \d+ more|During handling of|The above exc|$"
)
_IN_TRACEBACK = b"Traceback (most recent call last)"

_LEVELS: dict[str, LogLevel] = {
    "TRACE": "trace", "DEBUG": "debug", "INFO": "info", "NOTICE": "info", "WARN": "warning", "WARNING": "warning",
    "ERR": "error", "ERROR": "error", "SEVERE": "error", "CRIT": "critical", "CRITICAL": "critical", "FATAL": "critical",
    "ALERT": "critical", "EMERG": "critical", "EMERGENCY": "critical", "PANIC": "critical",
}  # fmt: skip
_NAMES = "|".join(sorted(_LEVELS, key=len, reverse=True))
_LEVEL_FIRST = re.compile(
    rf"(?:[\[<(]((?i:{_NAMES}))[\]>)]|((?:{_NAMES}|{_NAMES.lower()})(?=[\s|,-]|$)|(?i:{_NAMES})(?=:)))[\s:|,-]*"
)
_LEVEL_NEAR = re.compile(
    rf"\blevel=[\"']?((?i:{_NAMES}))\b|[\[<]((?i:{_NAMES}))[\]>]|(?<![\w./-])({_NAMES})(?![\w./-])"
)
_NEAR_CHARS = 80
"""How far into the message a level that is not its first word may stand."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry as it stood in the file.

    Attributes:
        offset: of its first byte in the file.
        text: its bytes, without the last line end, cut to :data:`ENTRY_BYTES_MAX`.
        dropped: how many bytes were cut off.
    """

    offset: int
    text: bytes
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """What an entry says: its time (None when it names none), level, and the message without both."""

    at: datetime | None
    level: LogLevel
    message: str


class EntryAssembler:
    """Puts entries together from a file read piece by piece, from ``offset`` on.

    Attributes:
        open_from: where the first byte stands that is not part of a finished entry; reading again from here loses nothing.
    """

    def __init__(self, offset: int = 0) -> None:
        self.open_from = offset
        self._rest = bytearray()
        self._rest_dropped = 0
        self._lines: list[bytes] = []
        self._kept_bytes = 0
        self._dropped = 0
        self._span = 0

    def feed(self, data: bytes) -> list[Entry]:
        """The entries that ``data``, the next bytes of the file, completes."""
        entries: list[Entry] = []
        *whole, last = data.split(b"\n")
        for piece in whole:
            self._keep_rest(piece)
            entries.extend(self._take_line())
        self._keep_rest(last)
        return entries

    def flush(self, *, at_end: bool = False) -> list[Entry]:
        """The entry of the whole lines at hand; with ``at_end`` also of a last line that was never ended."""
        entries: list[Entry] = []
        if at_end and (self._rest or self._rest_dropped):
            entries.extend(self._take_line(ended=False))
        if self._lines:
            entries.append(self._finish())
        return entries

    def _keep_rest(self, piece: bytes) -> None:
        room = ENTRY_BYTES_MAX - len(self._rest)
        self._rest += piece[:room]
        self._rest_dropped += max(0, len(piece) - room)

    def _take_line(self, *, ended: bool = True) -> list[Entry]:
        line, dropped = bytes(self._rest), self._rest_dropped
        self._rest.clear()
        self._rest_dropped = 0
        entries = [] if not self._lines or self._continues(line) else [self._finish()]
        room = max(0, ENTRY_BYTES_MAX - self._kept_bytes)
        if room:
            self._lines.append(line[:room].rstrip(b"\r"))
            self._kept_bytes += min(len(line), room) + 1
        self._dropped += dropped + max(0, len(line) - room)
        self._span += len(line) + dropped + ended
        return entries

    def _continues(self, line: bytes) -> bool:
        if _CONTINUATION.match(line):
            return True
        if _TIME_START.match(self._lines[0]):
            return not _TIME_START.match(line)
        # The line that names the exception ends a traceback, and looks like any other.
        return self._lines[-1][:1] in (b" ", b"\t") and any(_IN_TRACEBACK in earlier for earlier in self._lines)

    def _finish(self) -> Entry:
        text = b"\n".join(self._lines).rstrip()
        entry = Entry(self.open_from, text, self._dropped)
        self.open_from += self._span
        self._lines = []
        self._kept_bytes = self._dropped = self._span = 0
        return entry


def parse_entry(text: bytes, *, zone: tzinfo = UTC) -> LogLine:
    """What an entry says; bytes that are not UTF-8 are shown as U+FFFD.

    Args:
        text: the entry.
        zone: of times that name none.
    """
    message = text.decode(errors="replace")
    at, message = _take_time(message, zone)
    first = _LEVEL_FIRST.match(message)
    if first:
        return LogLine(at, _level(first), message[first.end() :])
    near = _LEVEL_NEAR.search(message, 0, _NEAR_CHARS)
    level: LogLevel = "info"
    if near:
        level = _level(near)
    elif _IN_TRACEBACK.decode() in message:
        level = "error"
    return LogLine(at, level, message)


def _level(found: re.Match[str]) -> LogLevel:
    return _LEVELS[next(name for name in found.groups() if name).upper()]


def _take_time(message: str, zone: tzinfo) -> tuple[datetime | None, str]:
    found = _TIME.match(message)
    if found is None:
        return None, message
    day, clock, fraction, offset = found.groups()
    try:
        naive = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6].ljust(6, '0')}")
        at = naive.replace(tzinfo=_zone(offset) if offset else zone).astimezone(UTC)
    except (ValueError, OverflowError):  # digits in the right places, but no date
        return None, message
    return at, message[found.end() :]


def _zone(offset: str) -> tzinfo:
    if offset in ("Z", "UTC"):
        return UTC
    minutes = int(offset[1:3]) * 60 + int(offset[-2:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
