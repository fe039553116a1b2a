"""How a recording lies in its file: zstd frames of JSON lines, each behind a seal that says what it is and vouches for it.

    seal 0   frame         the header: what the recording is, one line
    seal 1   frame         block 1: records, one line each, in order of offset
    ...
    seal                   the index: where each block is, from which offset and event time to which
    end                    where the index is

Seals and the end are skippable frames, which zstd's own tools pass over.  A seal holds a SHA-256 of everything before it,
of itself and of its frame: no byte can change, go or change places without being noticed, and what comes before the
damage can be trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import orjson
import zstandard

from pipeline.engine.record import Offset
from topology.errors import BadInputError

FORMAT = 1
FORMAT_FIELD = "aiops-recording"
"""In the first seal of every format there will ever be, with the number of the format."""
SKIPPABLE = bytes.fromhex("5a2a4d18")
"""The first bytes of a recording, and of each seal: one of the sixteen magic numbers that zstd passes over."""
_ABOUT_BYTES_MAX = 1 << 30
_DIGEST_CHARS = 64
_END = re.compile(rb"aiops-recording-index-at (\d{20})\n")
END_BYTES = len(SKIPPABLE) + 4 + len(b"aiops-recording-index-at ") + 20 + 1
START = ""
"""What is before the first seal."""


class RecordingError(BadInputError):
    """A file is not a recording that can be read.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, said: str) -> None:
        super().__init__(f"{path}{said}")
        self.path = path


class ForeignRecordingError(RecordingError):
    """It is something else."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(path, f": found {found}, expected a recording as `aiops record` makes it")


class NewerRecordingError(RecordingError):
    """It is of a format that a later release made."""

    def __init__(self, path: Path, found: object) -> None:
        said = f": found a recording of format {found}, expected {FORMAT}; read it with the release that made it"
        super().__init__(path, said)


class DamagedRecordingError(RecordingError):
    """It is not what was written.

    Attributes:
        where: the block, and the byte at which it begins.
    """

    def __init__(self, path: Path, where: str, found: str, *, readable: bool = True) -> None:
        way_out = "bring the file back from a backup" + (
            ", or read what comes before with salvage (`--salvage`)" if readable else "; nothing of it can be read"
        )
        super().__init__(path, f", {where}: {found}; {way_out}")
        self.where = where


@dataclass(frozen=True, slots=True)
class Block:
    """One seal and its frame, as the index has them.

    Attributes:
        number: 0 is the header.
        at: the byte at which the seal begins.
        sha256: what the seal holds.
        frame: bytes of the frame.
        size: bytes of the lines.
        first: the offset of the first line.
        last: the offset of the last line.
        from_us: the earliest event time, in microseconds; None where no event says one.
        to_us: the latest event time.
    """

    number: int
    at: int
    sha256: str
    frame: int
    size: int
    lines: int
    first: Offset
    last: Offset
    from_us: int | None
    to_us: int | None

    @classmethod
    def parse(cls, about: dict[str, Any], at: int, digest: str) -> Block:
        """What a seal says; raises KeyError, TypeError or ValueError where it says something else."""
        first, last = Offset.parse(about["first"]), Offset.parse(about["last"])
        number, frame, size, lines = (int(about[name]) for name in ("block", "frame", "size", "lines"))
        return cls(number, at, digest, frame, size, lines, first, last, about["from_us"], about["to_us"])

    @property
    def about(self) -> dict[str, Any]:
        """What its seal says."""
        return {
            "block": self.number,
            "frame": self.frame,
            "size": self.size,
            "lines": self.lines,
            "first": str(self.first),
            "last": str(self.last),
            "from_us": self.from_us,
            "to_us": self.to_us,
        }


@dataclass(frozen=True, slots=True)
class Seal:
    """A seal that was read, and not checked yet.

    Attributes:
        at: the byte at which it begins.
    """

    at: int
    digest: str
    text: bytes
    about: dict[str, Any]

    def vouches_for(self, before: str, frame: bytes) -> bool:
        """Whether it is the seal of this frame, after what came before."""
        return self.digest == _digest(before, self.text, frame)


def seal(before: str, about: dict[str, Any], frame: bytes = b"") -> tuple[bytes, str]:
    """The seal of a frame, and the digest in it.

    Args:
        before: the digest of the seal before it; ``START`` for the first.
    """
    text = orjson.dumps(about)
    digest = _digest(before, text, frame)
    return _skippable(b"%b\n%b\n" % (digest.encode(), text)), digest


def end(index_at: int) -> bytes:
    """The last bytes of a recording."""
    return _skippable(b"aiops-recording-index-at %020d\n" % index_at)


def index_at(last_bytes: bytes) -> int | None:
    """Where the last bytes of a file say the index is; None when they are not the end of a recording."""
    found = _END.fullmatch(last_bytes[8:])
    at = int(found[1]) if found else 0
    return at if found and last_bytes == end(at) else None


def compress(lines: bytes) -> bytes:
    """The frame of some lines; equal lines give equal frames."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True).compress(lines)


class FileReader:
    """Takes one thing after the other out of a file, and says where it was when that cannot be done."""

    def __init__(self, path: Path, file: IO[bytes], size: int) -> None:
        self.path = path
        self.size = size
        self._file = file
        self.at = 0

    def go(self, at: int) -> None:
        """Go on from a byte of the file."""
        self.at = self._file.seek(at)

    def take(self, count: int, what: str) -> bytes:
        """So many bytes; raises ``DamagedRecordingError`` when the file has less."""
        if not 0 <= count <= self.size - self.at:
            raise self.damage(what, f"the file ends within it, after {self.size:,} bytes")
        taken = self._file.read(count)
        self.at += len(taken)
        return taken

    def seal(self, what: str) -> Seal:
        """The seal that begins here.

        Raises:
            DamagedRecordingError: there is none.
        """
        at = self.at
        magic = self.take(4, what)
        if magic != SKIPPABLE:
            raise self.damage(what, f"found bytes {magic.hex()}, expected a seal ({SKIPPABLE.hex()})", at)
        size = int.from_bytes(self.take(4, what), "little")
        if not _DIGEST_CHARS + 2 <= size <= _ABOUT_BYTES_MAX:
            raise self.damage(what, f"found a seal of {size:,} bytes", at)
        digest, _, rest = self.take(size, what).partition(b"\n")
        try:
            about = orjson.loads(rest)
            if not isinstance(about, dict) or not rest.endswith(b"\n"):
                raise TypeError("no seal")  # noqa: TRY301 - told below as what cannot be parsed is
            return Seal(at, digest.decode("ascii"), rest[:-1], about)
        except (TypeError, ValueError) as error:
            raise self.damage(what, f"found {rest[:60]!r}, expected a seal", at) from error

    def frame(self, seal: Seal, before: str, what: str) -> tuple[Block, bytes]:
        """What a seal says, and the lines in the frame behind it.

        Raises:
            DamagedRecordingError: they are not what was written.
        """
        try:
            block = Block.parse(seal.about, seal.at, seal.digest)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self.damage(what, f"found {seal.text[:60]!r}, expected the seal of a block", seal.at) from error
        frame = self.take(block.frame, what)
        if not seal.vouches_for(before, frame):
            raise self.damage(what, "its SHA-256 is not what its seal says", seal.at)
        try:
            return block, zstandard.ZstdDecompressor().decompress(frame, max_output_size=block.size)
        except zstandard.ZstdError as error:
            raise self.damage(what, f"it cannot be decompressed ({error})", seal.at) from error

    def damage(self, what: str, found: str, at: int | None = None) -> DamagedRecordingError:
        """The error of what was found at a byte; by default where the reader stands."""
        where = f"{what} (byte {self.at if at is None else at:,})"
        return DamagedRecordingError(self.path, where, found, readable=what != "header")


def _skippable(content: bytes) -> bytes:
    return SKIPPABLE + len(content).to_bytes(4, "little") + content


def _digest(before: str, text: bytes, frame: bytes) -> str:
    digest = sha256(before.encode())
    digest.update(text)
    digest.update(frame)
    return digest.hexdigest()
