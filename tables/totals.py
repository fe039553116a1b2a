"""The running state of tables without a window: one accumulator per key, from the first entry on.

Rows: ``<key>`` holds ``<time of the latest entry> <accumulator>``.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, TypeVar

from tables.aggregates import Aggregate
from tables.bound import BoundTable
from topology.state import ClosedWindow

Amount = TypeVar("Amount")
Value = TypeVar("Value")


class TotalsTable(BoundTable[Amount, Value]):
    """Entries by key, for as long as the key is retained; made by ``Table.bind``.  Nothing is ever late here."""

    def __init__(
        self, name: str, key: str, aggregate: Aggregate[Amount, Any, Value], keys_max: int, *, retain_us: int | None
    ) -> None:
        super().__init__(name, key, aggregate, keys_max)
        self._retain_us = retain_us
        if retain_us is not None:
            self.evicted["retain"] = 0
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._totals: dict[str, tuple[int, Any]] = {}
        self._touched: dict[str, None] = {}
        # One entry per retained key, with a time at which to look at it again: at most its latest one.
        self._expiring: list[tuple[int, str]] = []

    def keys(self) -> list[str]:
        """The keys with entries, sorted."""
        return sorted(self._totals)

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Drop the keys that were silent for as long as they are retained; there are no windows to close."""
        if self._retain_us is None:
            return []
        silent_since_us = watermark_us - self._retain_us
        while self._expiring and self._expiring[0][0] <= silent_since_us:
            _, key = heapq.heappop(self._expiring)
            if key not in self._totals:  # it was evicted
                continue
            latest_us = self._totals[key][0]
            if latest_us <= silent_since_us:
                self._drop(key)
                self.evicted["retain"] += 1
            else:
                heapq.heappush(self._expiring, (latest_us, key))
        return []

    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None:
        """Take over rows of a snapshot or a folded changelog, into a new state; see ``topology.state.BoundState``."""
        for key, data in entries.items():
            latest, _, accumulated = data.partition(b" ")
            if key not in self._totals:
                self._totals[key] = (int(latest), self._aggregate.decode(accumulated))
                self._watch(key, int(latest))

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, each encoded once, however often it was touched."""
        touched, self._touched = self._touched, {}
        return {key: self._row(key) if key in self._totals else None for key in touched}

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""
        return {key: self._row(key) for key in self._totals}

    def _put(self, key: str, at_us: int, amount: Amount) -> Any:
        known = self._totals.get(key)
        before = self._aggregate.initial() if known is None else known[1]
        accumulated = self._aggregate.add(before, amount, at_us)
        if known is None:
            if len(self._totals) >= self._keys_max:
                self._evict()
            self._watch(key, at_us)
        self._totals[key] = (at_us if known is None else max(at_us, known[0]), accumulated)
        self._touched[key] = None
        return accumulated

    def _value(self, key: str, at_us: int | None) -> Value:
        known = self._totals.get(key)
        return self._aggregate.value(self._aggregate.initial() if known is None else known[1], 0)

    def _row(self, key: str) -> bytes:
        latest_us, accumulated = self._totals[key]
        return b"%d %b" % (latest_us, self._aggregate.encode(accumulated))

    def _watch(self, key: str, at_us: int) -> None:
        if self._retain_us is not None:
            heapq.heappush(self._expiring, (at_us, key))
            if len(self._expiring) > 2 * len(self._totals) + 100:  # most of them are of keys that were evicted
                self._expiring = [(total[0], known) for known, total in self._totals.items()] + [(at_us, key)]
                heapq.heapify(self._expiring)

    def _drop(self, key: str) -> None:
        del self._totals[key]
        self._touched[key] = None

    def _evict(self) -> None:
        oldest = self._longest_silent(self._totals, lambda key: self._totals[key][0])
        for key in oldest:
            self._drop(key)
        self.evicted["keys_max"] += len(oldest)
