"""How far log files were read: one small file, replaced as a whole, so that a crash leaves the old one or the new one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

log = logging.getLogger(__name__)

HEAD_BYTES = 256
"""The beginning of a file, by which one that was written anew, or got the inode of a removed one, is told from the old."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far one file was read.

    Attributes:
        path: where it was when it was last seen; a rotation may have moved it since.
        device, inode: the file itself, wherever it is.
        generation: how often it was written anew from the beginning.
        offset: of the first byte that was not published.
        head: its first bytes, as hexadecimal digits.
    """

    path: str
    device: int
    inode: int
    generation: int
    offset: int
    head: str


@dataclass(frozen=True, slots=True)
class Positions:
    """What the file holds: the positions, and the patterns that were followed when it was written."""

    patterns: tuple[str, ...] = ()
    files: tuple[Position, ...] = ()


_STORED = TypeAdapter(Positions)


class PositionFile:
    """Reads and writes :class:`Positions`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Positions | None:
        """What was last written; None when nothing was, or when it cannot be read any more."""
        try:
            return _STORED.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            log.warning("found no positions in %s (%s); log files are followed from their ends", self._path, error)
            return None

    def write(self, patterns: Iterable[str], files: Iterable[Position]) -> None:
        """Replace what is stored, durably."""
        stored = {"patterns": list(patterns), "files": [asdict(position) for position in files]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("wb") as file:
            file.write(orjson.dumps(stored))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
