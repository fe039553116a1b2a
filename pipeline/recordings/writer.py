"""Writes a recording: records in order, in blocks, and at the end where each block is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO

import orjson

from pipeline.archive.folder import written_whole
from pipeline.archive.line import encode_line
from pipeline.engine.record import BEGINNING, Offset, Record
from pipeline.recordings.header import Header, Index
from pipeline.recordings.layout import FORMAT, FORMAT_FIELD, START, Block, compress, end, seal
from topology.errors import AiopsError
from topology.moments import to_us

BLOCK_BYTES = 1 << 18
"""A damaged byte costs so much, and a jump to an offset reads so much in vain; smaller blocks compress worse."""


class RecordingNotWrittenError(AiopsError):
    """The disk did not take it; there is nothing by its name that was not there before."""


@contextmanager
def new_recording(path: Path, header: Header, *, block_bytes: int = BLOCK_BYTES) -> Iterator[RecordingWriter]:
    """A recording that has its name when all of it is on the disk, and not at all when something fails.

    A file of that name is replaced.

    Raises:
        RecordingNotWrittenError: the disk does not take it.
    """
    try:
        with written_whole(path) as file:
            writer = RecordingWriter(file, header, block_bytes=block_bytes)
            yield writer
            writer.finish()
    except OSError as error:
        msg = f"cannot write the recording {path}: {error}; is there such a folder, and room on the disk?"
        raise RecordingNotWrittenError(msg) from error


class RecordingWriter:
    """Takes records in order of offset, then of stream and partition; equal records give equal bytes.

    Args:
        file: is written from where it stands, which must be its beginning.
        block_bytes: of lines, before they are compressed.

    Attributes:
        streams: how many records of each stream were written.
        types: how many of each event type.
    """

    def __init__(self, file: IO[bytes], header: Header, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._file = file
        self._block_bytes = block_bytes
        self._at = 0
        self._digest = START
        self._blocks: list[Block] = []
        self.streams: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self._last: tuple[Offset, str, int] | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self._first = BEGINNING
        self._from_us: int | None = None
        self._to_us: int | None = None
        self._lines.append(orjson.dumps(header.model_dump(mode="json")) + b"\n")
        self._write_block()

    def add(self, record: Record) -> None:
        """Write one record.

        Raises:
            ValueError: it does not come after the one before.
        """
        place = record.offset, record.stream, record.partition
        if self._last is not None and place <= self._last:
            raise ValueError(f"found record {place} after {self._last}, expected them in order")
        if not self._lines:
            self._first = record.offset
        self._last = place
        line = encode_line(
            {
                "stream": record.stream,
                "partition": record.partition,
                "offset": str(record.offset),
                "key": record.key,
                "type": record.event_type,
            },
            record.value,
        )
        self._lines.append(line)
        self._size += len(line)
        self.streams[record.stream] += 1
        self.types[record.event_type] += 1
        at_us = _event_time(record)
        if at_us is not None:
            self._from_us = at_us if self._from_us is None else min(self._from_us, at_us)
            self._to_us = at_us if self._to_us is None else max(self._to_us, at_us)
        if self._size >= self._block_bytes:
            self._write_block()

    def finish(self) -> Index:
        """Write what is left, and the index; nothing can be added then."""
        if self._lines:
            self._write_block()
        index = Index(tuple(self._blocks), dict(sorted(self.streams.items())), dict(sorted(self.types.items())))
        blocks = [{"at": block.at, "sha256": block.sha256, **block.about} for block in index.blocks]
        sealed, _ = seal(self._digest, {"blocks": blocks, "streams": index.streams, "types": index.types})
        self._file.write(sealed + end(self._at))
        return index

    def _write_block(self) -> None:
        number, content = len(self._blocks), b"".join(self._lines)
        frame = compress(content)
        last = self._last[0] if self._last is not None else BEGINNING
        lines = len(self._lines)
        block = Block(
            number, self._at, "", len(frame), len(content), lines, self._first, last, self._from_us, self._to_us
        )
        about = block.about if number else {FORMAT_FIELD: FORMAT, **block.about}
        sealed, self._digest = seal(self._digest, about, frame)
        self._file.write(sealed)
        self._file.write(frame)
        self._blocks.append(replace(block, sha256=self._digest))
        self._at += len(sealed) + len(frame)
        self._lines, self._size = [], 0
        self._from_us = self._to_us = None


def _event_time(record: Record) -> int | None:
    """When the event happened, also of an event this release does not know; None where it says no such thing."""
    try:
        return to_us(datetime.fromisoformat(orjson.loads(record.value)["timestamp"]))
    except (KeyError, OverflowError, TypeError, ValueError):
        return None
