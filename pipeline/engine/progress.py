"""How far a stage's partition has come in one input, when some records wait for answers and later ones are done."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.engine.record import Offset


class Progress:
    """Records begin in order and finish in any; everything up to ``offset`` is finished.

    Attributes:
        offset: what a restart begins after.
        position: the last record taken in.
        passed: how many records ``offset`` has passed since it was last set to 0.
    """

    def __init__(self, offset: Offset, ahead: Iterable[Offset] = ()) -> None:
        self.offset = offset
        self.position = offset
        self.passed = 0
        self._skip = set(ahead)
        self._finished: dict[Offset, bool] = {}  # after the oldest unfinished record, in order

    def begin(self, offset: Offset) -> bool:
        """Take in a record; False when it was finished before a restart."""
        self.position = offset
        if offset in self._skip:
            self._skip.discard(offset)
            self._finished[offset] = True
            self._advance()
            return False
        self._finished[offset] = False
        return True

    def finish(self, offset: Offset) -> None:
        """A record is done."""
        self._finished[offset] = True
        self._advance()

    @property
    def ahead(self) -> list[Offset]:
        """Finished records behind an unfinished one, which a restart must not process again."""
        return sorted({offset for offset, done in self._finished.items() if done} | self._skip)

    def _advance(self) -> None:
        finished = self._finished
        while finished:
            oldest = next(iter(finished))
            if not finished[oldest]:
                return
            del finished[oldest]
            self.offset = oldest
            self.passed += 1
