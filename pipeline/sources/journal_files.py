"""The files of a journal: how a line looks, how a file is written so that a crash cannot harm it, a look from outside."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import orjson


class Line(NamedTuple):
    """One publication."""

    number: int
    at_ms: int
    events: tuple[bytes, ...]

    def write(self) -> bytes:
        """As it lies in a file."""
        body = b"%d %d %d [%s]" % (self.number, self.at_ms, len(self.events), b",".join(self.events))
        return b"%08x %s\n" % (zlib.crc32(body), body)

    @classmethod
    def read(cls, line: bytes) -> Line | None:
        """None when it is damaged."""
        try:
            check, body = line.rstrip(b"\n").split(b" ", 1)
            if int(check, 16) != zlib.crc32(body):
                return None
            number, at_ms, _, events = body.split(b" ", 3)
            return cls(int(number), int(at_ms), tuple(orjson.dumps(event) for event in orjson.loads(events)))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a journal holds for the mesh; ``since_ms`` is 0 when it holds nothing."""

    events: int
    size: int
    since_ms: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in a journal's folder, for a look from outside."""

    waiting: Waiting
    dropped: Counter[str]
    unpublishable: int
    damaged: int


def look_into(folder: Path) -> Contents:
    """What a journal holds, without touching it, whoever writes it."""
    drained = int(read_if_there(folder / "drained") or b"0")
    events = size = since_ms = damaged = 0
    sources: list[str] = []
    for path in sorted(folder.glob("*/*.jsonl")):
        try:
            raw_lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:  # it was drained meanwhile
            continue
        lines = [Line.read(raw) for raw in raw_lines if raw.endswith(b"\n")]
        damaged += lines.count(None)
        left = [line for line in lines if line is not None and line.number > drained]
        if left:
            events += sum(len(line.events) for line in left)
            size += sum(map(len, raw_lines))
            since_ms = min(since_ms or left[0].at_ms, left[0].at_ms)
            sources += [unquote(path.parent.name)] if unquote(path.parent.name) not in sources else []
    unpublishable = (read_if_there(folder / "unpublishable.jsonl") or b"").count(b"\n")
    waiting = Waiting(events, size, since_ms, tuple(sources))
    return Contents(waiting, read_counts(folder / "dropped.json"), unpublishable, damaged)


def cut_torn_line(path: Path) -> None:
    """Cut off what follows the last whole line: a crash tore it, and it was promised to nobody."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def write_all(file: FileIO, content: bytes) -> None:
    """Write all of it, or raise ``OSError``; a full disk takes a part first."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def replace(path: Path, content: bytes) -> None:
    """Write a small file as a whole, durably."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def sync_folder(folder: Path) -> None:
    """Make it durable that a file is in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_if_there(path: Path) -> bytes | None:
    """None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def read_counts(path: Path) -> Counter[str]:
    """The counts in a file; none when it cannot be read."""
    try:
        return Counter(orjson.loads(read_if_there(path) or b"{}"))
    except orjson.JSONDecodeError:  # a crash, or a full disk, cut it off; the counts of this run go on
        return Counter()
