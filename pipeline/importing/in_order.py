"""Puts what was found in files into one order of time, in little memory, and makes records of it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import zstandard

from pipeline.archive.line import decode_line, encode_line
from pipeline.engine.record import Offset, Output, Record, output_for
from pipeline.recordings.writer import RecordingNotWrittenError
from topology.codec import decode, encode
from topology.event import Event, Payload
from topology.graph import Stream
from topology.ids import derived_id

RUN_BYTES = 64 << 20
"""Of events in memory; then they are sorted and put aside on the disk."""
_ITEM_BYTES = 500
"""What an event takes besides its value."""
_RUNS_MAX = 64
"""Files open at once; more are made one before."""
_TAIL_DIGITS = 8

_Item = tuple[int, int, Output]
"""Event time in microseconds, number in the order of reading, and the event."""


class InOrder(AbstractContextManager["InOrder"]):
    """Takes events in any order, and gives their records in order of event time; of equal times, as they came.

    A record's offset is its event's time: milliseconds, then its number within them, then 32 bits of its event's id, so that
    recordings of different things can be merged, and those of the same meet.

    Args:
        stream: where they belong.
        folder: of a disk with room for what does not fit into memory.
        repeats: whether to keep what was said twice at the same time, under ids of its own; else it is dropped.
        run_bytes: of events in memory.

    Attributes:
        added: how many events were taken.
        repeated: how many said what was said before, as far as records were taken.
    """

    def __init__(self, stream: Stream, folder: Path, *, repeats: bool, run_bytes: int = RUN_BYTES) -> None:
        self.repeated = 0
        self._stream = stream
        self._folder = folder
        self._repeats = repeats
        self._run_bytes = run_bytes
        self._items: list[_Item] = []
        self._size = 0
        self.added = 0
        self._stack = ExitStack()
        self._aside: Path | None = None
        self._runs: list[Path] = []
        self._written = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def add(self, event: Event[Payload]) -> None:
        """One more event.

        Raises:
            RecordingNotWrittenError: the disk does not take what does not fit into memory.
        """
        output = output_for(self._stream, event)
        # A copy: what a JSON writer gives out keeps the buffer it was written in, several thousand bytes.
        output = output._replace(value=bytes(memoryview(output.value)))
        self._items.append((event.at_us, self.added, output))
        self.added += 1
        self._size += len(output.value) + _ITEM_BYTES
        if self._size >= self._run_bytes:
            self._put_aside()

    def records(self) -> Iterator[Record]:
        """All of them, once, in order."""
        at_us = last_ms = -1
        number = 0
        seen = Counter[str]()
        for at, _, output in self._sorted():
            if at != at_us:
                at_us = at
                seen.clear()
            seen[output.id] += 1
            again = seen[output.id] - 1
            if again:
                self.repeated += 1
                if not self._repeats:
                    continue
            kept = self._told_apart(output, again) if again else output
            ms = at // 1_000
            number = number + 1 if ms == last_ms else 1
            last_ms = ms
            offset = Offset(ms, number << 32 | int(kept.id[-_TAIL_DIGITS:], 16))
            yield Record(kept.stream, kept.partition, offset, kept.key, kept.event_type, kept.value)

    def _told_apart(self, output: Output, again: int) -> Output:
        event = decode(output.value)
        event = replace(event, id=derived_id(event.id, "again", again))
        return output._replace(id=event.id_text, value=encode(event))

    def _sorted(self) -> Iterator[_Item]:
        self._items.sort()
        return heapq.merge(*map(self._read, self._runs), self._items)

    def _put_aside(self) -> None:
        try:
            aside = self._aside
            if aside is None:
                made = TemporaryDirectory(dir=self._folder, prefix=".importing-")
                aside = self._aside = Path(self._stack.enter_context(made))
            if len(self._runs) >= _RUNS_MAX:
                runs, self._runs = self._runs, []
                self._write(aside, heapq.merge(*map(self._read, runs)))
                for run in runs:
                    run.unlink()
            self._items.sort()
            self._write(aside, iter(self._items))
        except OSError as error:
            msg = f"cannot put events aside in {self._folder}: {error}; is there such a folder, and room on the disk?"
            raise RecordingNotWrittenError(msg) from error
        self._items.clear()
        self._size = 0

    def _write(self, aside: Path, items: Iterator[_Item]) -> None:
        path = aside / str(self._written)
        self._written += 1
        with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as compressed:
            for at_us, number, output in items:
                about = {
                    "at": at_us,
                    "number": number,
                    "partition": output.partition,
                    "key": output.key,
                    "type": output.event_type,
                    "id": output.id,
                }
                compressed.write(encode_line(about, output.value))
        self._runs.append(path)

    def _read(self, path: Path) -> Iterator[_Item]:
        rest = b""
        with path.open("rb") as file:
            for piece in zstandard.ZstdDecompressor().read_to_iter(file):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    about, value = decode_line(line)
                    place = self._stream.name, about["partition"]
                    output = Output(*place, about["key"], about["type"], about["id"], value)
                    yield about["at"], about["number"], output
