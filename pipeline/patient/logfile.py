"""A log file as services write it: one line per event, rotated by rename and reopen."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Lock
from typing import Literal

Level = Literal["INFO", "WARN", "ERROR"]
ROTATE_AT_BYTES = 1_000_000


def timestamp(seconds: float | None = None) -> str:
    """A moment (seconds since the epoch; now if omitted) in UTC to the millisecond: `2026-11-22T14:02:07.123Z`."""
    moment = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


class LogFile:
    """Appends `timestamp LEVEL unit message key=value ...` lines; safe to use from several threads.

    At `rotate_at_bytes` the file is renamed to `<name>.1` (replacing an older one) and a new file is begun, so that at
    most twice that much is ever kept.  An entry, its traceback included, is never split over two files.
    """

    def __init__(self, path: Path, unit: str, *, rotate_at_bytes: int = ROTATE_AT_BYTES) -> None:
        self._path = path
        self._unit = unit
        self._rotate_at_bytes = rotate_at_bytes
        self._lock = Lock()
        self._file = path.open("ab", buffering=0)

    def write(self, level: Level, message: str, traceback: str = "", /, **fields: object) -> None:
        """Append one entry; a traceback follows on lines of its own."""
        facts = "".join(f" {name}={_written(value)}" for name, value in fields.items())
        entry = f"{timestamp()} {level} {self._unit} {message}{facts}\n{traceback}".encode()
        with self._lock:
            if self._file.tell() and self._file.tell() + len(entry) > self._rotate_at_bytes:
                self._rotate()
            self._file.write(entry)

    def close(self) -> None:
        """Close the file; nothing can be written any more."""
        with self._lock:
            self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("ab", buffering=0)


def _written(value: object) -> str:
    """A value as one word; quoted like JSON when it would not be one."""
    word = str(value)
    return word if word and not any(character in word for character in ' "=\n') else json.dumps(word)
