"""The files of an archive: which there are, how one is added for good, and which are kept no longer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from pipeline.archive.segment import (
    DamagedSegmentError,
    Header,
    Segment,
    Span,
    encode_segment,
    read_header,
    read_segment,
)
from pipeline.engine.record import BEGINNING, Offset, Place, Record

_EXPIRED = "expired-through"
_UNFINISHED = ".partial"
DAMAGED = ".damaged"
"""Ends the name of a segment that was written anew."""


class Archive:
    """Everything below one folder.  Every method works on files and may raise ``OSError``; call them in a thread.

    Any number may read, also from other machines where the folder is shared.  One writes to a partition at a time:
    :class:`pipeline.archive.archivist.Archivist` sees to it.

    Args:
        folder: it is made when the first segment is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spans(self, place: Place) -> list[Span]:
        """The segments of a partition: those that begin first come first, of these the longest."""
        try:
            names = [path.name for path in self._folder_of(place).iterdir()]
        except FileNotFoundError:
            return []
        found = [span for span in map(Span.parse, names) if span is not None]
        return sorted(found, key=lambda span: (span.first, tuple(-part for part in span.last)))

    def path_of(self, place: Place, span: Span) -> Path:
        """Where a segment is."""
        return self._folder_of(place) / str(span)

    def read(self, place: Place, span: Span, *, salvage: bool = False) -> Segment:
        """The records of a segment; see :func:`pipeline.archive.segment.read_segment`."""
        return read_segment(self.path_of(place, span), place, salvage=salvage)

    def header(self, place: Place, span: Span) -> Header:
        """What a segment says of itself; see :func:`pipeline.archive.segment.read_header`."""
        return read_header(self.path_of(place, span), place)

    def write(self, place: Place, records: Sequence[Record], after: Offset) -> Path:
        """Add a segment; it is on the disk when this returns, and never there in part.

        Args:
            records: at least one, in order of offset.
            after: where the segment before it ended.
        """
        span = Span(records[0].offset, records[-1].offset)
        folder = self._made(place)
        path = folder / str(span)
        with written_whole(path) as file:
            file.write(encode_segment(place, records, after))
        return path

    def set_aside(self, place: Place, span: Span) -> None:
        """Take a damaged segment out of the way; its bytes are kept."""
        path = self.path_of(place, span)
        path.replace(path.with_name(path.name + DAMAGED))

    def tidy(self, place: Place) -> None:
        """Remove what a writer that was killed left unfinished."""
        with suppress(FileNotFoundError):
            for path in self._folder_of(place).iterdir():
                if path.name.endswith(_UNFINISHED):
                    path.unlink(missing_ok=True)

    def expired_through(self, place: Place) -> Offset:
        """Up to here segments were removed because of their age; ``BEGINNING`` when none was."""
        try:
            return Offset.parse((self._folder_of(place) / _EXPIRED).read_text().strip())
        except FileNotFoundError:
            return BEGINNING

    def expire(self, place: Place, before_ms: int) -> tuple[int, int]:
        """Remove the segments whose last event is older than that; answers how many, and how many events they had.

        Readers learn that it was done on purpose.
        """
        old = [span for span in self.spans(place) if span.last.ms < before_ms]
        if not old:
            return 0, 0
        through = max(self.expired_through(place), *(span.last for span in old))
        with written_whole(self._folder_of(place) / _EXPIRED) as file:
            file.write(f"{through}\n".encode())
        segments = events = 0
        for span in old:
            count = self._count(place, span)
            with suppress(FileNotFoundError):  # somebody else was faster
                self.path_of(place, span).unlink()
                segments, events = segments + 1, events + count
        return segments, events

    def _count(self, place: Place, span: Span) -> int:
        try:
            return self.header(place, span).count
        except (DamagedSegmentError, FileNotFoundError):
            return 0

    def _folder_of(self, place: Place) -> Path:
        return self.folder / place[0] / str(place[1])

    def _made(self, place: Place) -> Path:
        folder = self._folder_of(place)
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for made in (folder, folder.parent, self.folder, self.folder.parent):
                _sync(made)
        return folder


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there with all that was written to it, also after a power cut, or not at all."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED, delete=False) as file:
        unfinished = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
