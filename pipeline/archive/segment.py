"""One file of an archive: consecutive records of one partition as zstd-compressed JSON lines.

The first line is the header, a frame of its own; the rest is one line per record, in frames with a checksum each, so that
of a damaged file everything before the damage can be trusted.  ``zstdcat FILE`` shows all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import orjson
import zstandard

from pipeline.archive.line import decode_line, encode_line
from pipeline.engine.record import Offset, Place, Record
from topology.errors import AiopsError

FORMAT = 1
SUFFIX = ".jsonl.zst"
_NAME = re.compile(r"(\d{1,20}-\d{1,20})_(\d{1,20}-\d{1,20})" + re.escape(SUFFIX))
_LEVEL = 3
_FRAME_BYTES = 1 << 18
"""A damaged byte costs so much, not more; smaller frames compress worse."""
_HEADER_BYTES_MAX = 4096


class ArchiveError(AiopsError):
    """The archive does not have what was asked for."""


class DamagedSegmentError(ArchiveError):
    """A file of the archive is not what was written, or does not belong where it is.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path}: {found}. Bring the file back from a backup, or read what is left with salvage (`--salvage`)"
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself.

    Attributes:
        after: where the segment before it ended: between the two there was nothing.
        size: bytes of the lines.
        sha256: of the lines.
    """

    stream: str
    partition: int
    first: Offset
    last: Offset
    after: Offset
    count: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that was read.

    Attributes:
        damage: what is wrong, where it was salvaged; empty for a whole one.
    """

    header: Header | None
    records: list[Record]
    damage: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A segment's name: from which offset to which."""

    first: Offset
    last: Offset

    def __str__(self) -> str:
        return f"{self.first}_{self.last}{SUFFIX}"

    @classmethod
    def parse(cls, name: str) -> Span | None:
        """Read a file's name; None when it is not a segment's."""
        match = _NAME.fullmatch(name)
        return cls(Offset.parse(match[1]), Offset.parse(match[2])) if match else None


def encode_segment(place: Place, records: Sequence[Record], after: Offset) -> bytes:
    """The file of these records; equal records give equal bytes.

    Args:
        records: at least one, in order of offset.
        after: where the segment before it ended.
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
    digest, size, frames = sha256(), 0, []
    for frame in _frames(records):
        digest.update(frame)
        size += len(frame)
        frames.append(compressor.compress(frame))
    header = {
        "format": FORMAT,
        "stream": place[0],
        "partition": place[1],
        "first": str(records[0].offset),
        "last": str(records[-1].offset),
        "after": str(after),
        "count": len(records),
        "size": size,
        "sha256": digest.hexdigest(),
    }
    return b"".join([compressor.compress(orjson.dumps(header) + b"\n"), *frames])


def read_header(path: Path, place: Place) -> Header:
    """What a segment says of itself; raises as :func:`read_segment` does."""
    with path.open("rb") as file:
        content, _ = _first_frame(path, file.read(_HEADER_BYTES_MAX), "header", _HEADER_BYTES_MAX)
    return _header(path, place, content)


def read_segment(path: Path, place: Place, *, salvage: bool = False) -> Segment:
    """The records of a file, all of them checked before the first is handed out.

    Args:
        salvage: of a damaged file hand out what comes before the damage, instead of raising.

    Raises:
        DamagedSegmentError: the file is not what was written, or belongs somewhere else.
        FileNotFoundError: it is gone.
        OSError: it cannot be read.
    """
    rest = path.read_bytes()
    header: Header | None = None
    records: list[Record] = []
    try:
        content, rest = _first_frame(path, rest, "header", _HEADER_BYTES_MAX)
        header = _header(path, place, content)
        digest = sha256()
        while rest:
            where = f"lines after {records[-1].offset if records else 'the header'}"
            content, rest = _first_frame(path, rest, where, header.size)
            digest.update(content)
            records += _records(path, place, content)
        _expect(path, "the number of lines", len(records), header.count)
        _expect(path, "the SHA-256 of the lines", digest.hexdigest(), header.sha256)
        _expect(path, "the span of the lines", str(_span_of(records)), path.name)
    except DamagedSegmentError as damage:
        if not salvage:
            raise
        return Segment(header, records, str(damage))
    return Segment(header, records)


def _frames(records: Sequence[Record]) -> Iterator[bytes]:
    lines, size = [], 0
    for record in records:
        line = _line(record)
        lines.append(line)
        size += len(line)
        if size >= _FRAME_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def _line(record: Record) -> bytes:
    return encode_line({"offset": str(record.offset), "key": record.key, "type": record.event_type}, record.value)


def _records(path: Path, place: Place, content: bytes) -> list[Record]:
    records = []
    for line in content.split(b"\n")[:-1]:
        try:
            records.append(_record(place, line))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedSegmentError(path, f"found {line[:80]!r}, expected a record ({error})") from error
    return records


def _record(place: Place, line: bytes) -> Record:
    fields, value = decode_line(line)
    return Record(*place, Offset.parse(fields["offset"]), fields["key"], fields["type"], value)


def _span_of(records: Sequence[Record]) -> Span | None:
    return Span(records[0].offset, records[-1].offset) if records else None


def _first_frame(path: Path, data: bytes, what: str, size_max: int) -> tuple[bytes, bytes]:
    """The content of the frame that data begins with, and what comes after it."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    try:
        if (size := zstandard.get_frame_parameters(data).content_size) > size_max:
            raise DamagedSegmentError(path, f"the {what} would be {size:,} bytes, expected {size_max:,} at most")
        content = decompressor.decompress(data)
    except zstandard.ZstdError as error:
        raise DamagedSegmentError(path, f"the {what} cannot be decompressed ({error})") from error
    if not decompressor.eof:
        raise DamagedSegmentError(path, f"it ends within the {what}")
    return content, decompressor.unused_data


def _header(path: Path, place: Place, content: bytes) -> Header:
    try:
        said = orjson.loads(content)
        version = said["format"]
        first, last, after = (Offset.parse(said[name]) for name in ("first", "last", "after"))
        count, size = int(said["count"]), int(said["size"])
        header = Header(said["stream"], said["partition"], first, last, after, count, size, said["sha256"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedSegmentError(path, f"found {content[:80]!r}, expected a segment's header") from error
    _expect(path, "the format", version, FORMAT)
    _expect(path, "the stream and partition", f"{header.stream}/{header.partition}", f"{place[0]}/{place[1]}")
    _expect(path, "the name the header asks for", str(Span(header.first, header.last)), path.name)
    return header


def _expect(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DamagedSegmentError(path, f"{what} is {found}, expected {expected}")
