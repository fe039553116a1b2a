"""Reads recordings: front to back, or from an offset by the index; what is not what was written is refused."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import orjson
from pydantic import ValidationError

from pipeline.archive.line import decode_line
from pipeline.engine.record import BEGINNING, Offset, Record
from pipeline.recordings.header import Header, Index
from pipeline.recordings.layout import (
    END_BYTES,
    FORMAT,
    FORMAT_FIELD,
    SKIPPABLE,
    START,
    Block,
    DamagedRecordingError,
    FileReader,
    ForeignRecordingError,
    NewerRecordingError,
    Seal,
    end,
    index_at,
)
from topology.errors import ConfigurationError


class Recording:
    """A recording, its header and index checked; blocks are checked as they are read.

    Args:
        salvage: of a damaged one give out what comes before the damage, instead of raising.

    Raises:
        ForeignRecordingError: the file is something else.
        NewerRecordingError: a later release made it.
        DamagedRecordingError: it is cut off or changed; the header also when it is to be salvaged.
        ConfigurationError: the file cannot be opened.

    Attributes:
        header: what it says of itself.
        index: where everything is; None where it is damaged and salvaged.
        damage: what is wrong, as far as is known by now, where it is salvaged; empty as long as nothing is.
    """

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        self.path = path
        self.damage = ""
        self._salvage = salvage
        with _opened(path) as file:
            reader = FileReader(path, file, _size_of(file))
            self.header, self._header_block = _read_header(reader)
            self.index = _read_index(reader, self._header_block)
            if self.index is None:
                self._find_the_damage(reader)

    def records(self, since: Offset = BEGINNING, until: Offset | None = None) -> Iterator[Record]:
        """Records in order of offset, then of stream and partition; each block is checked before its first is given out.

        Args:
            since: only what comes after it; by default everything.
            until: only what comes up to it.

        Raises:
            DamagedRecordingError: a block is not what was written; salvaged, the records end before it, and ``damage``
                says so.
        """
        with _opened(self.path) as file:
            reader = FileReader(self.path, file, _size_of(file))
            last: tuple[Offset, str, int] | None = None
            try:
                for block, lines in self._blocks(reader, since, until):
                    for record in self._parsed(reader, block, lines, last):
                        last = (record.offset, record.stream, record.partition)
                        if until is not None and record.offset > until:
                            return
                        if record.offset > since:
                            yield record
            except DamagedRecordingError as damage:
                if not self._salvage:
                    raise
                self.damage = str(damage)

    def _blocks(self, reader: FileReader, since: Offset, until: Offset | None) -> Iterator[tuple[Block, bytes]]:
        """Blocks that may have records of a span, and their lines."""
        if self.index is None:
            yield from _front_to_back(reader, self._header_block)
            return
        before = self.index.blocks[0]
        for block in self.index.blocks[1:]:
            if until is not None and block.first > until:
                return
            if block.last > since:
                reader.go(block.at)
                what = f"block {block.number}"
                found, lines = reader.frame(reader.seal(what), before.sha256, what)
                if found != block:
                    raise reader.damage(what, "it is not the block that the index names", block.at)
                yield block, lines
            before = block

    def _parsed(
        self, reader: FileReader, block: Block, lines: bytes, last: tuple[Offset, str, int] | None
    ) -> list[Record]:
        """The records of a block; what its writer should never have written is told by its line."""
        records = []
        for number, line in enumerate(lines.split(b"\n")[:-1], start=1):
            try:
                record = _record(line)
                stream = self.header.streams[record.stream]
                place = (record.offset, record.stream, record.partition)
                if not 0 <= record.partition < stream.partitions or (last is not None and place <= last):
                    raise ValueError(f"record {place} after {last}")  # noqa: TRY301 - told as what cannot be parsed is
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                what = f"block {block.number}, line {number}"
                raise reader.damage(
                    what, f"found {line[:80]!r}, expected the next record ({error})", block.at
                ) from error
            last = place
            records.append(record)
        if len(records) != block.lines:
            raise reader.damage(
                f"block {block.number}", f"found {len(records)} lines, expected {block.lines}", block.at
            )
        return records

    def _find_the_damage(self, reader: FileReader) -> None:
        """Go from front to back up to what keeps the index from being read, and raise it, or keep it in mind."""
        try:
            for _ in _front_to_back(reader, self._header_block):
                pass
            raise reader.damage("index", "it is not where the end of the file says it is", reader.size)
        except DamagedRecordingError as damage:
            if not self._salvage:
                raise
            self.damage = str(damage)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        msg = f"cannot read the recording {path}: {error.strerror}"
        raise ConfigurationError(msg) from error


def _size_of(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _read_header(reader: FileReader) -> tuple[Header, Block]:
    what = "header"
    try:
        sealed = reader.seal(what)
        found = sealed.about.get(FORMAT_FIELD)
    except DamagedRecordingError:
        _refuse_foreign(reader)
        raise
    if not isinstance(found, int):
        raise ForeignRecordingError(reader.path, f"{sealed.text[:60]!r}")
    if found != FORMAT:
        raise NewerRecordingError(reader.path, found)
    block, line = reader.frame(sealed, START, what)
    try:
        return Header.model_validate(orjson.loads(line)), block
    except (ValidationError, ValueError) as error:
        raise reader.damage(what, f"found {line[:80]!r}, expected what a recording says of itself", 0) from error


def _refuse_foreign(reader: FileReader) -> None:
    """Tell a file of another kind from a recording with damage at its beginning."""
    reader.go(0)
    beginning = reader.take(min(reader.size, 100), "header")
    is_ours = FORMAT_FIELD.encode() in beginning or beginning[:4] == SKIPPABLE[: len(beginning)]
    if not is_ours:
        raise ForeignRecordingError(reader.path, f"a file that begins with {beginning[:40]!r}")


def _read_index(reader: FileReader, header: Block) -> Index | None:
    """The index, by the end of the file; None when one of the two is not what was written, or not with this header."""
    reader.go(max(0, reader.size - END_BYTES))
    at = index_at(reader.take(reader.size - reader.at, "end"))
    if at is None or at > reader.size:
        return None
    reader.go(at)
    try:
        sealed = reader.seal("index")
        if reader.size - reader.at != END_BYTES:
            return None
        index = _index(reader, sealed)
        return index if index.blocks[0] == header else None
    except DamagedRecordingError:
        return None


def _index(reader: FileReader, sealed: Seal) -> Index:
    try:
        said = sealed.about["blocks"]
        blocks = tuple(Block.parse(about, int(about["at"]), str(about["sha256"])) for about in said)
        streams, types = ({str(k): int(v) for k, v in sealed.about[name].items()} for name in ("streams", "types"))
        if not blocks or not sealed.vouches_for(blocks[-1].sha256, b""):
            raise ValueError("its SHA-256 is not what it says")  # noqa: TRY301 - told as what cannot be parsed is
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise reader.damage("index", f"found {sealed.text[:60]!r} ({error})", sealed.at) from error
    return Index(blocks, streams, types)


def _front_to_back(reader: FileReader, header: Block) -> Generator[tuple[Block, bytes]]:
    """Every block; ends only when the index and the end are there too, and nothing after them."""
    reader.go(header.at)
    reader.frame(reader.seal("header"), START, "header")
    before = header
    while True:
        what = f"block {before.number + 1} (after {before.last})"
        if reader.at == reader.size:
            raise reader.damage(what, "the file ends before it and has no index: whoever wrote it was interrupted")
        sealed = reader.seal(what)
        if "blocks" in sealed.about:
            break
        block, lines = reader.frame(sealed, before.sha256, what)
        yield block, lines
        before = block
    index = _index(reader, sealed)
    if index.blocks[-1] != before:
        raise reader.damage("index", "it names other blocks than there are", sealed.at)
    if reader.take(reader.size - reader.at, "end") != end(sealed.at):
        raise reader.damage("end", f"found something else than where the index is ({sealed.at})", reader.at)


def _record(line: bytes) -> Record:
    fields, value = decode_line(line)
    offset = Offset.parse(fields["offset"])
    return Record(fields["stream"], fields["partition"], offset, fields["key"], fields["type"], value)
