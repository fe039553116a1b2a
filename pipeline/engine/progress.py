"""How far a stage's partition has come in one input, when some records wait for answers and later ones are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import orjson

from pipeline.engine.record import Offset, Record

Run = tuple[Offset, Offset]
"""Consecutive records, by the first and the last of them."""


class Progress:
    """Records begin in order and finish in any; everything up to ``offset`` is finished.

    Attributes:
        offset: what a restart begins after.
        position: the last record taken in.
        passed: how many records ``offset`` has passed since it was last set to 0.
    """

    def __init__(self, offset: Offset, ahead: Iterable[Run] = ()) -> None:
        self.offset = offset
        self.position = offset
        self.passed = 0
        self._skip = deque(sorted(ahead))
        self._begun: deque[Offset] = deque()  # from the oldest unfinished record on
        self._done: set[Offset] = set()  # those of them that are finished
        self._untouched: deque[Record] = deque()  # begun after those, and none of them finished

    @classmethod
    def restored(cls, offset: Offset, ahead_row: bytes | str | None) -> Progress:
        """What :attr:`ahead_row` was written of."""
        runs = orjson.loads(ahead_row or b"[]")
        return cls(offset, [(Offset.parse(first), Offset.parse(last)) for first, last in runs])

    @property
    def ahead_row(self) -> bytes | None:
        """What lies ahead, as a row to be kept beside the offset; None when nothing does."""
        runs = [[str(first), str(last)] for first, last in self.ahead]
        return orjson.dumps(runs) if runs else None

    def begin(self, offset: Offset) -> bool:
        """Take in a record; False when it was finished before a restart."""
        self._touch()
        self.position = offset
        while self._skip and self._skip[0][1] < offset:
            self._skip.popleft()
        self._begun.append(offset)
        if self._skip and self._skip[0][0] <= offset:
            self.finish(offset)
            return False
        return True

    def begin_all(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take in records; answers those that were not finished before a restart."""
        if self._skip:
            return [record for record in records if self.begin(record.offset)]
        if records:
            self._untouched.extend(records)
            self.position = records[-1].offset
        return records

    def finish(self, offset: Offset) -> None:
        """A record is done."""
        self._touch()
        begun, done = self._begun, self._done
        done.add(offset)
        while begun and begun[0] in done:
            self.offset = begun.popleft()
            done.discard(self.offset)
            self.passed += 1

    def finish_all(self, records: Sequence[Record]) -> None:
        """The oldest unfinished records are done; costs next to nothing where all went in order."""
        if self._begun:
            for record in records:
                self.finish(record.offset)
        elif records:
            for _ in records:
                self._untouched.popleft()
            self.offset = records[-1].offset
            self.passed += len(records)

    def is_finished(self, offset: Offset) -> bool:
        """Whether a record that was taken in is done."""
        return offset <= self.offset or offset in self._done

    @property
    def pending(self) -> int:
        """How many records have been taken in since the oldest unfinished one: what a restart would read again."""
        return len(self._begun) + len(self._untouched)

    @property
    def ahead(self) -> list[Run]:
        """Finished records behind an unfinished one, which a restart must not process again.

        As runs: there are about as many as unfinished records, however many records are finished.
        """
        if not self._begun:
            return [run for run in self._skip if run[1] > self.position]
        runs: list[Run] = []
        joins = False
        for offset in self._begun:
            done = offset in self._done
            if done and joins:
                runs[-1] = (runs[-1][0], offset)
            elif done:
                runs.append((offset, offset))
            joins = done
        later = list(self._skip)
        if later and joins and later[0][0] <= self.position:
            runs[-1] = (runs[-1][0], later.pop(0)[1])
        return runs + [run for run in later if run[1] > self.position]

    def _touch(self) -> None:
        if self._untouched:
            self._begun.extend(record.offset for record in self._untouched)
            self._untouched.clear()
