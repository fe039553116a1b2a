"""Log files: entries of one line or several with a time in front, and lines of JSON.

An entry without a time has that of the entry before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pipeline.importing.inputs import Inputs, as_text, brief
from pipeline.importing.observation import Observation, signal
from pipeline.importing.times import Times
from pipeline.sources.formats.body import MalformedBodyError
from pipeline.sources.log_entries import ENTRY_BYTES_MAX, Entry, EntryAssembler, LogLine, parse_entry
from pipeline.sources.logs import LogFiles
from topology.errors import BadInputError
from topology.moments import to_us
from topology.payloads.signals import LogLevel, LogWritten, Signal

_TIMES = ("@timestamp", "timestamp", "time", "ts", "datetime", "date")
_MESSAGES = ("message", "msg", "log", "event", "text")
_LEVELS = ("level", "severity", "lvl", "loglevel", "log.level")
_LOGGERS = ("logger", "logger_name", "logger.name", "name")
_SERVICES = ("service", "service.name", "service_name")
_NUMBERED_LEVELS: tuple[tuple[float, LogLevel], ...] = (
    (10, "trace"), (20, "debug"), (30, "info"), (40, "warning"), (50, "error"),
)  # fmt: skip
"""Below which number a level is which: as pino and bunyan count, a step above Python's."""


@dataclass(frozen=True, slots=True)
class LogText:
    """How such files are to be read.

    Attributes:
        service: who wrote them; by default the name of the file up to its first dot, or what an entry in JSON says.
        times: how entries in JSON write theirs; of others only the zone counts.
    """

    service: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    times: Times = field(default_factory=Times)
    source: str = "import:logs"
    gives: tuple[type[Signal], ...] = (LogWritten,)
    repeats: bool = True

    def read(self, path: Path, inputs: Inputs) -> Iterator[Observation]:
        """See :class:`pipeline.importing.observation.Importer`."""
        at_us: int | None = None
        for entry in _entries(inputs.chunks(path)):
            if not entry.text.strip():
                continue
            try:
                said = self._observed(path, entry, at_us)
            except BadInputError as error:
                inputs.refuse(path, f"byte {entry.offset:,}", error)
                continue
            at_us = said.at_us
            yield said

    def _observed(self, path: Path, entry: Entry, before_us: int | None) -> Observation:
        said = _json_object(entry.text)
        service = self.service or LogFiles(pattern="").service_of(path)
        labels = dict(self.labels)
        logger = ""
        if said is None:
            line = parse_entry(entry.text, zone=self.times.zone)
            at_us = None if line.at is None else to_us(line.at)
        else:
            at_us = self._time_of(said)
            line, logger, named, extra = _taken_apart(said)
            service = self.service or named or service
            labels = {**extra, **labels}
        at_us = before_us if at_us is None else at_us
        if at_us is None:
            raise MalformedBodyError(f"no time in {entry.text[:60]!r}, nor in what is before it", "a time")
        payload = signal(
            LogWritten,
            service=service,
            labels=labels,
            message=line.message,
            level=line.level,
            logger=logger,
            origin=path.name,
        )
        return Observation(at_us, payload, metadata={"cut_bytes": entry.dropped} if entry.dropped else None)

    def _time_of(self, said: Mapping[str, Any]) -> int | None:
        name = next((name for name in _TIMES if said.get(name) not in (None, "")), None)
        if name is None:
            return None
        found = said[name]
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise MalformedBodyError(brief(found), "a time", field=name)
        try:
            return self.times.read(found if isinstance(found, str) else format(found, "f" if found % 1 else ".0f"))
        except MalformedBodyError as error:
            raise MalformedBodyError(error.found, error.expected, field=name) from error


def _entries(chunks: Iterable[bytes]) -> Iterator[Entry]:
    """Entries as log sources find them, except that a line that is an object of JSON continues none."""
    assembler = EntryAssembler()
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line[:1] == b"{" and line.rstrip()[-1:] == b"}":
                yield from assembler.flush()
            yield from assembler.feed(line + b"\n")
        if len(rest) > ENTRY_BYTES_MAX:
            yield from assembler.feed(rest)
            rest = b""
    yield from assembler.feed(rest)
    yield from assembler.flush(at_end=True)


def _json_object(text: bytes) -> dict[str, Any] | None:
    if text[:1] != b"{":
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _taken_apart(said: Mapping[str, Any]) -> tuple[LogLine, str, str, dict[str, str]]:
    """What an entry in JSON says: its line, logger and service, and as labels what else is text, number or truth."""
    message, level, logger, service = (
        next((name for name in names if isinstance(said.get(name), str | int) and said[name] != ""), None)
        for names in (_MESSAGES, _LEVELS, _LOGGERS, _SERVICES)
    )
    known = {message, level, logger, service, *_TIMES}
    extra = {
        name: as_text(value)
        for name, value in said.items()
        if name not in known and isinstance(value, str | int | float | bool)
    }
    text = as_text(said) if message is None else str(said[message])
    line = LogLine(None, _level_of(None if level is None else said[level], text), text)
    return line, str(said[logger]) if logger else "", str(said[service]) if service else "", extra


def _level_of(found: str | int | None, text: str) -> LogLevel:
    if isinstance(found, str):
        return parse_entry(f"[{found}] ".encode()).level
    if found is None:
        return parse_entry(text.encode()).level
    return next((level for below, level in _NUMBERED_LEVELS if found < below), "critical")
