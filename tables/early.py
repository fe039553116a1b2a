"""Results of windows before they close, each replacing the one before it.

A result is due when a window got new entries and either the watermark passed a multiple of a duration (counted from the
epoch, like windows), or so many entries have come since its last result.  It is given with the next ``advance``; where
entries are counted, engines call it after each event that may have brought one, also when the watermark has not moved.
So what is given, and when, follows from the stream alone.

Rows: ``early|<end of window>|<key>`` holds ``<results given> <entries since the last one>``; ``early`` holds the
multiple of the duration that was passed last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from topology.moments import span_us

EARLY_ROW = "early"


class EarlyResults:
    """Which open windows of one table have a result due, and how many each has given.

    Args:
        every: the duration, or the number of entries, after which a result is due.
    """

    def __init__(self, every: timedelta | int) -> None:
        self._every_us = span_us(every) if isinstance(every, timedelta) else None
        self._entries = every if isinstance(every, int) else 1
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._passed_us: int | None = None
        self._passed_moved = False
        self._windows: dict[tuple[int, str], tuple[int, int]] = {}
        self._due: dict[tuple[int, str], None] = {}
        self._touched: dict[tuple[int, str], None] = {}

    @property
    def by_entries(self) -> bool:
        """Whether results become due by entries, without any passing of time."""
        return self._every_us is None

    def count(self, ends: Iterable[int], key: str) -> None:
        """Take note of an entry in the windows of a key that end then."""
        for end in ends:
            window = (end, key)
            given, entries = self._windows.get(window, (0, 0))
            self._set(window, given, entries + 1)

    def take_due(self, watermark_us: int) -> list[tuple[int, str, int]]:
        """The windows to give a result of, as (end, key, revision), in this order; they are then not due any more."""
        if self._every_us is not None:
            passed_us = watermark_us - watermark_us % self._every_us
            if self._passed_us is not None and passed_us <= self._passed_us:
                return []
            self._passed_us, self._passed_moved = passed_us, True
        due = sorted(self._due)
        self._due = {}
        found = []
        for window in due:
            given, _ = self._windows[window]
            found.append((*window, given))
            self._set(window, given + 1, 0)
        return found

    def close(self, end: int, key: str) -> int:
        """Forget a window, because it closes or its key is dropped; answers how many results it gave."""
        window = (end, key)
        known = self._windows.pop(window, None)
        if known is None:
            return 0
        self._due.pop(window, None)
        self._touched[window] = None
        return known[0]

    def restore(self, rows: Mapping[str, bytes]) -> None:
        """Take over rows of a snapshot or a folded changelog, before anything else is done."""
        for row, data in rows.items():
            _, _, window = row.partition("|")
            if not window:
                self._passed_us = int(data)
                continue
            end, _, key = window.partition("|")
            given, _, entries = data.partition(b" ")
            self._set((int(end), key), int(given), int(entries))
        self._touched = {}

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call; None means deleted."""
        touched, self._touched = self._touched, {}
        changed: dict[str, bytes | None] = {}
        for window in touched:
            end, key = window
            changed[f"{EARLY_ROW}|{end}|{key}"] = self._row(window) if window in self._windows else None
        if self._passed_moved:
            changed[EARLY_ROW] = b"%d" % (self._passed_us or 0)
            self._passed_moved = False
        return changed

    def snapshot(self) -> dict[str, bytes]:
        """Every row; equals the fold of all changes."""
        rows = {f"{EARLY_ROW}|{end}|{key}": self._row((end, key)) for end, key in self._windows}
        if self._passed_us is not None:
            rows[EARLY_ROW] = b"%d" % self._passed_us
        return rows

    def _set(self, window: tuple[int, str], given: int, entries: int) -> None:
        self._windows[window] = (given, entries)
        self._touched[window] = None
        if entries >= self._entries:
            self._due[window] = None

    def _row(self, window: tuple[int, str]) -> bytes:
        return b"%d %d" % self._windows[window]
