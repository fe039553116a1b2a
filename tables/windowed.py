"""What the running states of all windowed tables share: how far closing has come, what is late, which rows changed.

Rows: ``<instant in microseconds>|<key>`` is one entry of the table; ``closed`` holds the instant up to which every
window is closed, so that a restored table refuses the same late entries; ``early`` and what begins with it belongs to
early results (``tables.early``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from tables.aggregates import Aggregate
from tables.bound import BoundTable
from tables.early import EARLY_ROW, EarlyResults
from tables.windows import Span
from topology.state import LateEntry

Amount = TypeVar("Amount")
Value = TypeVar("Value")

CLOSED_ROW = "closed"
NEVER: Final = -(1 << 62)
"""Before every instant: nothing is closed yet."""


class WindowedTable(BoundTable[Amount, Value]):
    """Entries by key and window; made by ``Table.bind``.

    An entry is late when a window it belongs to is closed.  It is then reported by ``take_late``.  A closed window never
    changes.
    """

    def __init__(
        self,
        name: str,
        key: str,
        aggregate: Aggregate[Amount, Any, Value],
        keys_max: int,
        *,
        lateness_us: int,
        early: EarlyResults | None = None,
    ) -> None:
        super().__init__(name, key, aggregate, keys_max)
        self._lateness_us = lateness_us
        self._early = early
        self._closed_up_to_us = NEVER
        self._closing_moved = False
        # By instant and key; dicts as ordered sets, so that rows are written in the same order in every process.
        self._touched: dict[int, dict[str, None]] = {}

    @property
    def eager(self) -> bool:
        """Whether results may be due although the watermark has not moved (``topology.state.EagerState``)."""
        return self._early is not None and self._early.by_entries

    @abstractmethod
    def windows(self, key: str) -> list[tuple[Span, Value]]:
        """The windows of a key that are open or retained, with their values, in order of their ends."""

    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None:
        """Take over rows of a snapshot or a folded changelog, into a new state; see ``topology.state.BoundState``."""
        early: dict[str, bytes] = {}
        for row, data in entries.items():
            instant, _, key = row.partition("|")
            if row == CLOSED_ROW:
                self._close_up_to(int(data))
            elif instant == EARLY_ROW:
                early[row] = data
            else:
                self._restore_row(int(instant), key, data)
        if self._early is not None:
            self._early.restore(early)

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, each encoded once, however often it was touched."""
        touched, self._touched = self._touched, {}
        changed: dict[str, bytes | None] = {}
        for instant, keys in touched.items():
            changed.update(self._rows_at(instant, keys))
        if self._closing_moved:
            changed[CLOSED_ROW] = b"%d" % self._closed_up_to_us
            self._closing_moved = False
        if self._early is not None:
            changed.update(self._early.changes())
        return changed

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""
        rows = self._all_rows()
        if self._closed_up_to_us != NEVER:
            rows[CLOSED_ROW] = b"%d" % self._closed_up_to_us
        if self._early is not None:
            rows.update(self._early.snapshot())
        return rows

    @abstractmethod
    def _forget_everything(self) -> None:
        """Start with no entries."""

    @abstractmethod
    def _restore_row(self, instant: int, key: str, data: bytes) -> None:
        """Take over one entry, which may be known already."""

    @abstractmethod
    def _rows_at(self, instant: int, keys: Iterable[str]) -> dict[str, bytes | None]:
        """The rows of an instant's keys; None for those that are gone."""

    @abstractmethod
    def _all_rows(self) -> dict[str, bytes]:
        """The rows of all entries."""

    @abstractmethod
    def _close_up_to(self, closed_up_to_us: int) -> None:
        """Take note that every window up to this instant is closed."""

    def _touch(self, instant: int, key: str) -> None:
        keys = self._touched.get(instant)
        if keys is None:
            self._touched[instant] = {key: None}
        else:
            keys[key] = None

    def _report_late(self, key: str, at_us: int) -> None:
        self.late.append(LateEntry(self.name, key, at_us))
