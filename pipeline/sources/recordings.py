"""Recordings: events as lines of JSON, one event a line, as ``pipeline.sinks.recording`` writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipeline.sources.source import Publish
from topology.codec import decode
from topology.errors import BadInputError, ConfigurationError
from topology.event import Event, Payload

_BATCH = 500


class DamagedRecordingError(BadInputError):
    """A line of a recording is no event; ``line`` counts from 1."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}; remove the line, or cut the recording before it")
        self.path = path
        self.line = line


def read_recording(path: Path) -> Iterator[Event[Payload]]:
    """The events of a recording, in the order they were written; old versions come as those of today.

    Empty lines are skipped.  A last line without its end was being written when the recorder died, and is skipped too
    unless it is a whole event.

    Raises:
        ConfigurationError: the recording cannot be opened.
        DamagedRecordingError: a line is no event.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        msg = f"cannot read the recording {path}: {error.strerror}"
        raise ConfigurationError(msg) from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                event = decode(line)
            except BadInputError as error:
                if not line.endswith(b"\n"):
                    return
                raise DamagedRecordingError(path, number, str(error)) from error
            yield event


class RecordingSource:
    """Publishes what a recording holds, as fast as it is taken, and ends.

    Attributes:
        published: events handed over since the start, known ones included.
    """

    def __init__(self, path: Path) -> None:
        self.published = 0
        self._path = path

    async def run(self, publish: Publish) -> None:
        """Publish all of it; started again, it begins anew: every event has the same id.

        Raises:
            ConfigurationError: the recording cannot be opened.
            DamagedRecordingError: a line is no event; those before it are published.
            RetryableError: passed on from ``publish``.
        """
        events = read_recording(self._path)
        damage: DamagedRecordingError | None = None
        while damage is None:
            batch, damage = await asyncio.to_thread(_take, events)
            if batch:
                await publish(batch)
                self.published += len(batch)
            elif damage is None:
                return
        raise damage


def _take(events: Iterator[Event[Payload]]) -> tuple[list[Event[Payload]], DamagedRecordingError | None]:
    """The next batch, and the damage that ended it, if any."""
    batch: list[Event[Payload]] = []
    try:
        batch.extend(islice(events, _BATCH))
    except DamagedRecordingError as damage:
        return batch, damage
    return batch, None
