"""What tumbling, hopping and sliding tables share: accumulators by pane and key, and closing by the grid of panes.

Rows: ``<start of pane in microseconds>|<key>`` holds an accumulator; a tumbling window is one pane.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar

from tables.aggregates import Aggregate
from tables.early import EarlyResults
from tables.windowed import NEVER, WindowedTable
from tables.windows import Window
from topology.state import ClosedWindow

Amount = TypeVar("Amount")
Value = TypeVar("Value")

NO_ENTRIES: dict[str, Any] = {}
"""Of a pane that is not there; only ever read."""


class AlignedTable(WindowedTable[Amount, Value]):
    """Entries by pane and key.  By pane first, because a slot in a pane's dictionary is all that most entries cost."""

    def __init__(
        self,
        name: str,
        key: str,
        aggregate: Aggregate[Amount, Any, Value],
        keys_max: int,
        *,
        window: Window,
        lateness_us: int,
        early: EarlyResults | None = None,
    ) -> None:
        super().__init__(name, key, aggregate, keys_max, lateness_us=lateness_us, early=early)
        self._size_us, self._pane_us = window.size_us, window.pane_us
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._next_closing_us = NEVER
        self._panes: dict[int, dict[str, Any]] = {}

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Close the windows that ended at or before the watermark less the table's own lateness.

        Costs one comparison while there is nothing to close: call it with every event, so that what is late does not
        depend on how events were batched.
        """
        closed: list[ClosedWindow] = []
        if watermark_us >= self._next_closing_us:
            reached_us = watermark_us - self._lateness_us
            closed = self._close(reached_us - reached_us % self._pane_us)
            self._closing_moved = True
        if self._early is not None:
            closed += [self._early_result(*due) for due in self._early.take_due(watermark_us)]
        return closed

    @abstractmethod
    def _close(self, closed_up_to_us: int) -> list[ClosedWindow]:
        """Close the windows that end up to then, and drop what is no longer needed."""

    @abstractmethod
    def _value_of(self, key: str, end: int) -> Value:
        """The value of the window that ends at ``end``."""

    def _final_result(self, end: int, key: str) -> ClosedWindow:
        revision = self._give_no_more(end, key)
        return ClosedWindow(self.name, key, end - self._size_us, end, self._value_of(key, end), True, revision)

    def _early_result(self, end: int, key: str, revision: int) -> ClosedWindow:
        return ClosedWindow(self.name, key, end - self._size_us, end, self._value_of(key, end), False, revision)

    def _give_no_more(self, end: int, key: str) -> int:
        """End the early results of a window; answers how many it gave."""
        return 0 if self._early is None else self._early.close(end, key)

    def _close_up_to(self, closed_up_to_us: int) -> None:
        self._closed_up_to_us = closed_up_to_us
        self._next_closing_us = closed_up_to_us + self._pane_us + self._lateness_us

    def _rows_at(self, instant: int, keys: Iterable[str]) -> dict[str, bytes | None]:
        entries, encode, prefix = self._panes.get(instant, NO_ENTRIES), self._aggregate.encode, f"{instant}|"
        return {prefix + key: encode(entries[key]) if key in entries else None for key in keys}

    def _all_rows(self) -> dict[str, bytes]:
        encode = self._aggregate.encode
        return {
            f"{start}|{key}": encode(accumulated)
            for start, entries in self._panes.items()
            for key, accumulated in entries.items()
        }
