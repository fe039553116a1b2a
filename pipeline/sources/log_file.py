"""One log file that is being followed, whatever its writer does to it: append, rename, copy and truncate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Self

from pipeline.sources.log_entries import Entry, EntryAssembler
from pipeline.sources.log_positions import HEAD_BYTES, Position

READ_BYTES_MAX = 256 * 1024
"""At one time from one file, so that a busy file does not hold up the others."""
_LINE_LOOK_BACK_BYTES = 64 * 1024


class FollowedFile:
    """An open log file and how far it was read.

    Attributes:
        path: where it was found; it may have been renamed since.
        moved: another file is at ``path`` now (or none): what is still in this one is its end.
        last_bytes_at: monotonic seconds when it last gave something.
    """

    def __init__(self, path: Path, file: BinaryIO, *, offset: int, generation: int, head: bytes, now_s: float) -> None:
        self.path = path
        self.moved = False
        self.last_bytes_at = now_s
        self._file = file
        self._head = head
        self._generation = generation
        self._read_to = offset
        self._entries = EntryAssembler(offset)
        status = os.fstat(file.fileno())
        self.device, self.inode = status.st_dev, status.st_ino

    @classmethod
    def open(cls, path: Path, *, now_s: float, known: Position | None = None, from_end: bool = False) -> Self:
        """Open a file at its known position; without one, at its beginning or at the last line end in it.

        Raises:
            OSError: it is gone, or may not be read.
        """
        file = path.open("rb", buffering=0)
        try:
            head = os.pread(file.fileno(), HEAD_BYTES, 0)
            generation = offset = 0
            if known is not None:
                same = head.startswith(bytes.fromhex(known.head)) and os.fstat(file.fileno()).st_size >= known.offset
                generation, offset = (known.generation, known.offset) if same else (known.generation + 1, 0)
            elif from_end:
                offset = _last_line_end(file)
            return cls(path, file, offset=offset, generation=generation, head=head, now_s=now_s)
        except BaseException:
            file.close()
            raise

    @property
    def position(self) -> Position:
        """How far it was read, not counting the entry that is not finished."""
        return Position(
            str(self.path), self.device, self.inode, self._generation, self._entries.open_from, self._head.hex()
        )

    @property
    def generation(self) -> int:
        """How often it was written anew."""
        return self._generation

    def close(self) -> None:
        self._file.close()

    def read(self, now_s: float) -> list[Entry]:
        """The entries that became complete; at most :data:`READ_BYTES_MAX` are read.

        A file that shrank, or does not begin as before, was written anew and is read from its beginning; what was read of
        the old one is given out first.
        """
        size = os.fstat(self._file.fileno()).st_size
        if size == self._read_to and len(self._head) == HEAD_BYTES:
            return []
        entries: list[Entry] = []
        if self._was_written_anew(size):
            entries = self._entries.flush(at_end=True)
            self._generation += 1
            self._read_to = 0
            self._entries = EntryAssembler()
        data = os.pread(self._file.fileno(), READ_BYTES_MAX, self._read_to)
        if data:
            self.last_bytes_at = now_s
            self._read_to += len(data)
            entries.extend(self._entries.feed(data))
        return entries

    def flush(self, *, at_end: bool = False) -> list[Entry]:
        """What waits for a line that might continue it; with ``at_end`` also a last line that was never ended."""
        return self._entries.flush(at_end=at_end)

    def _was_written_anew(self, size: int) -> bool:
        head = os.pread(self._file.fileno(), HEAD_BYTES, 0)
        anew = size < self._read_to or not head.startswith(self._head)
        self._head = head
        return anew


def _last_line_end(file: BinaryIO) -> int:
    """Where the line begins that is being written: reading never starts in the middle of one."""
    size = os.fstat(file.fileno()).st_size
    begin = max(0, size - _LINE_LOOK_BACK_BYTES)
    newline = os.pread(file.fileno(), size - begin, begin).rfind(b"\n")
    return begin + newline + 1 if newline >= 0 else begin if begin == 0 else size
