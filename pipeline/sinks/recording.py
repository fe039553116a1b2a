"""Writes events to a file, one line of JSON each; ``pipeline.sources.recordings`` reads it."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import orjson

from topology.codec import encode
from topology.errors import RetryableError
from topology.event import Event, Payload

_REMEMBERED = 100_000
"""Ids of the last events written: far more than can come twice after a crash."""
_LOOK_BACK_BYTES = 32 * 1024 * 1024


class RecordingSink:
    """Appends to one recording; an event that comes again soon, also after a restart, is written once.

    What ``write`` has returned for is on the disk.  A line that a crash left half written is removed when the recording is
    opened again.

    Attributes:
        written: events written since the start.
    """

    def __init__(self, path: Path) -> None:
        self.written = 0
        self._path = path
        self._file: BinaryIO | None = None
        self._known: OrderedDict[UUID, None] = OrderedDict()

    async def open(self) -> None:
        """Open the recording, or begin it.

        Raises:
            RetryableError: it cannot be opened now.
        """
        try:
            await asyncio.to_thread(self._open)
        except OSError as error:
            raise _unavailable(self._path, error) from error

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        """Append those that are new.

        Raises:
            RetryableError: the disk does not take them now; nothing of the batch is in the recording.
        """
        new = {event.id: event for event in events if event.id not in self._known}
        if not new:
            return
        try:
            await asyncio.to_thread(self._append, b"".join(encode(event) + b"\n" for event in new.values()))
        except OSError as error:
            raise _unavailable(self._path, error) from error
        self._remember(new)
        self.written += len(new)

    async def close(self) -> None:
        """Close the recording."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._file is not None:
            self._file.close()
        self._file = self._path.open("a+b", buffering=0)
        size = self._file.seek(0, os.SEEK_END)
        begin = max(0, size - _LOOK_BACK_BYTES)
        self._file.seek(begin)
        tail = self._file.read(size - begin)
        end = tail.rfind(b"\n") + 1
        self._file.truncate(begin + end)
        self._known.clear()
        self._remember(dict.fromkeys(id_ for line in tail[:end].splitlines() if (id_ := _id_in(line)) is not None))

    def _append(self, lines: bytes) -> None:
        if self._file is None:
            self._open()
        assert self._file is not None  # noqa: S101 it was opened just now
        size = self._file.seek(0, os.SEEK_END)
        try:
            view = memoryview(lines)
            while view:  # an unbuffered write may take less than all of it
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise

    def _remember(self, ids: dict[UUID, Event[Payload]] | dict[UUID, None]) -> None:
        self._known.update(dict.fromkeys(ids))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _unavailable(path: Path, error: OSError) -> RetryableError:
    return RetryableError(f"cannot write the recording {path}: {error.strerror or error}; is there room on the disk?")


def _id_in(line: bytes) -> UUID | None:
    """The id of a written event; None of the line that the look back began in the middle of."""
    try:
        return UUID(orjson.loads(line)["id"])
    except (ValueError, TypeError, KeyError):
        return None
