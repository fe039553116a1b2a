"""The running state of tumbling windows: per window a dictionary from keys to accumulators, and little else.

This is the table most agents use, so it is the one made small and fast: an entry of a count costs its slot in the window's
dictionary and one in the index of keys, and an addition a few dictionary look-ups (tests/benchmarks has the figures).
"""

from __future__ import annotations

from typing import Any, TypeVar

from tables.aggregates import Aggregate
from tables.aligned import NO_ENTRIES, AlignedTable
from tables.bound import ABSENT
from tables.early import EarlyResults
from tables.windowed import NEVER
from tables.windows import Span, Tumbling
from topology.state import ClosedWindow

Amount = TypeVar("Amount")
Value = TypeVar("Value")


class TumblingTable(AlignedTable[Amount, Value]):
    """Entries by key and tumbling window; made by ``Table.bind``."""

    _start: int
    _entries: dict[str, Any]
    _touched_keys: dict[str, None]

    def __init__(
        self,
        name: str,
        key: str,
        aggregate: Aggregate[Amount, Any, Value],
        keys_max: int,
        *,
        window: Tumbling,
        lateness_us: int,
        retain_us: int,
        early: EarlyResults | None = None,
    ) -> None:
        self._retain_us = retain_us
        super().__init__(name, key, aggregate, keys_max, window=window, lateness_us=lateness_us, early=early)

    def _forget_everything(self) -> None:
        super()._forget_everything()
        # Per key the start of its latest window: what the limit on keys goes by.
        self._latest: dict[str, int] = {}
        self._turn_away()

    def keys(self) -> list[str]:
        """The keys with entries, sorted."""
        return sorted(self._latest)

    def windows(self, key: str) -> list[tuple[Span, Value]]:
        """The windows of a key that are open or retained, with their values, in order of their ends."""
        return [
            (Span(start, start + self._size_us), self._aggregate.value(entries[key], self._size_us))
            for start, entries in sorted(self._panes.items())
            if key in entries
        ]

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, each encoded once, however often it was touched."""
        self._turn_away()
        return super().changes()

    def _close(self, closed_up_to_us: int) -> list[ClosedWindow]:
        before_us = self._closed_up_to_us
        self._close_up_to(closed_up_to_us)
        self._turn_away()
        closed: list[ClosedWindow] = []
        for start in sorted(self._panes):
            end = start + self._size_us
            if before_us < end <= closed_up_to_us:
                closed += [self._final_result(end, key) for key in sorted(self._panes[start])]
            if end <= closed_up_to_us - self._retain_us:
                self._drop_window(start)
        return closed

    def _put(self, key: str, at_us: int, amount: Amount) -> Any:
        start = at_us - at_us % self._size_us
        if start != self._start:
            if start < self._closed_up_to_us:
                self._report_late(key, at_us)
                return ABSENT
            self._turn_to(start)
        aggregate = self._aggregate
        known = self._entries.get(key, ABSENT)
        accumulated = aggregate.add(aggregate.initial() if known is ABSENT else known, amount, at_us)
        if known is ABSENT:
            self._make_room(key, start)
        self._entries[key] = accumulated
        self._touched_keys[key] = None
        if self._early is not None:
            self._early.count((start + self._size_us,), key)
        return accumulated

    def _value(self, key: str, at_us: int | None) -> Value:
        if at_us is None:
            msg = f"table {self.name!r} has windows: ask for the value at an instant, table.value(key, at_us)"
            raise TypeError(msg)
        return self._value_of(key, at_us - at_us % self._size_us + self._size_us)

    def _value_of(self, key: str, end: int) -> Value:
        known = self._panes.get(end - self._size_us, NO_ENTRIES).get(key, ABSENT)
        return self._aggregate.value(self._aggregate.initial() if known is ABSENT else known, self._size_us)

    def _turn_to(self, start: int) -> None:
        """Make a window the one at hand: most entries belong to the same one as the entry before them."""
        self._start = start
        self._entries = self._panes.get(start, {})
        self._touched_keys = self._touched.setdefault(start, {})

    def _turn_away(self) -> None:
        self._start, self._entries, self._touched_keys = NEVER, {}, {}

    def _make_room(self, key: str, start: int) -> None:
        """Note a key that is new in the window at hand."""
        latest_us = self._latest.get(key, NEVER)
        if latest_us == NEVER and len(self._latest) >= self._keys_max:
            self._evict()
        if latest_us < start:
            self._latest[key] = start
        self._panes[start] = self._entries  # it may be new, or have been emptied and dropped just now

    def _restore_row(self, instant: int, key: str, data: bytes) -> None:
        self._panes.setdefault(instant, {})[key] = self._aggregate.decode(data)
        if self._latest.get(key, NEVER) < instant:
            self._latest[key] = instant

    def _drop_window(self, start: int) -> None:
        entries = self._panes.pop(start)
        self._touched.setdefault(start, {}).update(dict.fromkeys(entries))
        for key in entries:
            if self._latest[key] == start:
                del self._latest[key]

    def _evict(self) -> None:
        oldest = self._longest_silent(self._latest, lambda key: self._latest[key])
        for key in oldest:
            del self._latest[key]
        for start in sorted(self._panes):
            entries = self._panes[start]
            for key in oldest:
                if entries.pop(key, ABSENT) is not ABSENT:
                    self._touch(start, key)
                    self._give_no_more(start + self._size_us, key)
            if not entries:
                del self._panes[start]
        self.evicted["keys_max"] += len(oldest)
