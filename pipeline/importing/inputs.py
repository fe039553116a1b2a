"""Reads files that somebody else wrote, and keeps account of what in them cannot be understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from pipeline.sources.formats.body import MalformedBodyError, show
from topology.errors import BadInputError, ConfigurationError

DOCUMENT_BYTES_MAX = 64 << 20
"""Of one JSON document: it is parsed as a whole, which takes several times as much memory."""
_CHUNK_BYTES = 1 << 18
_FIRST_BAD = 10
_WHOLE = ((b"{", b"}"), (b"[", b"]"))


class UnreadableInputError(BadInputError):
    """A file, or a part of it, cannot be understood.

    Attributes:
        path: the file.
        where: the place in it.
    """

    def __init__(self, path: Path, where: str, found: object, way_out: str = "") -> None:
        super().__init__(f"{path}{where and f', {where}'}: {found}{way_out and f'; {way_out}'}")
        self.path = path
        self.where = where


class Inputs:
    """The files of one import.

    Args:
        skip_bad: count what cannot be understood, and go on; else it is refused.
        progress: is told of bytes that were read.

    Attributes:
        bad: how many items were left out because they could not be understood.
        first_bad: what was wrong with the first of them, with file and place.
        gaps: moments at which a metric was said to have no value.
        left_out: what was understood, but is nothing that an event could say, by kind.
    """

    def __init__(self, *, skip_bad: bool = False, progress: Callable[[int], object] = lambda _: None) -> None:
        self.bad = 0
        self.first_bad: list[str] = []
        self.gaps = 0
        self.left_out = Counter[str]()
        self._skip_bad = skip_bad
        self._progress = progress

    def refuse(self, path: Path, where: str, error: BadInputError) -> None:
        """Leave out an item that cannot be understood; raise ``UnreadableInputError`` when that is not wanted."""
        if not self._skip_bad:
            way_out = "correct it, or leave out what cannot be understood with --skip-bad"
            raise UnreadableInputError(path, where, error, way_out) from error
        self.bad += 1
        if len(self.first_bad) < _FIRST_BAD:
            self.first_bad.append(f"{path}, {where}: {error}")

    def chunks(self, path: Path) -> Iterator[bytes]:
        """The bytes of a file, piece by piece.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    self._progress(len(chunk))
                    yield chunk
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error

    def lines(self, path: Path, *, bytes_max: int) -> Iterator[tuple[int, bytes]]:
        """The lines of a file that are not blank, without their ends, and their numbers from 1 on.

        Raises:
            UnreadableInputError: there is none, or one is longer than ``bytes_max``.
            ConfigurationError: the file cannot be read.
        """
        number, anything, rest = 0, False, bytearray()
        for chunk in self.chunks(path):
            *whole, last = chunk.split(b"\n")
            for piece in whole:
                number += 1
                rest += piece
                line = _checked(path, number, rest, bytes_max).rstrip(b"\r")
                if line.strip():
                    anything = True
                    yield number, line
                rest.clear()
            rest += last
            if len(rest) > bytes_max:
                raise _too_large(path, f"line {number + 1}", bytes_max)
        if rest.strip():
            yield number + 1, bytes(rest)
        elif not anything:
            raise UnreadableInputError(path, "", "found an empty file, expected something to import")

    def documents(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """The JSON documents of a file, and where each begins: one on each line, or one for the whole file.

        Raises:
            UnreadableInputError: there is none, or one is too large.
            ConfigurationError: the file cannot be read.
        """
        lines = self.lines(path, bytes_max=DOCUMENT_BYTES_MAX)
        number, first = next(lines)
        if any(first.strip().startswith(begin) and first.strip().endswith(end) for begin, end in _WHOLE):
            yield f"line {number}", first
            yield from ((f"line {number}", line) for number, line in lines)
            return
        document = bytearray(b"\n" * (number - 1) + first)
        at = number
        for number, line in lines:
            document += b"\n" * (number - at) + line
            at = number
            if len(document) > DOCUMENT_BYTES_MAX:
                raise _too_large(path, "")
        yield "", bytes(document)


def parsed(raw: bytes) -> Any:
    """The JSON value of a document; raises ``MalformedBodyError`` when it is none."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"no JSON ({error})", "a JSON document") from error


def as_text(value: object) -> str:
    """A text as it is, other JSON as it is written; raises ``MalformedBodyError`` where it nests too deeply for that."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise MalformedBodyError("lists or objects nested hundreds of levels deep", "fewer") from error


def expect_object(value: object, *, field: str, what: str = "an object") -> dict[str, Any]:
    """The value, when it is an object; raises ``MalformedBodyError`` else."""
    if not isinstance(value, dict):
        raise MalformedBodyError(brief(value), what, field=field)
    return value


def expect_list(value: object, *, field: str, what: str = "a list") -> list[Any]:
    """The value, when it is a list; raises ``MalformedBodyError`` else."""
    if not isinstance(value, list):
        raise MalformedBodyError(brief(value), what, field=field)
    return value


def brief(value: object) -> str:
    """A JSON value as a refusal shows it; of lists and objects, which may be deep, only what they are."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else show(value)


def _checked(path: Path, number: int, line: bytearray, bytes_max: int) -> bytes:
    if len(line) > bytes_max:
        raise _too_large(path, f"line {number}", bytes_max)
    return bytes(line)


def _too_large(path: Path, where: str, bytes_max: int = DOCUMENT_BYTES_MAX) -> UnreadableInputError:
    what = "a line" if where else "a document"
    found = f"found {what} of more than {bytes_max:,} bytes"
    return UnreadableInputError(path, where, found, "split it: JSON may come as one document per line")
