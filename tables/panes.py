"""The running state of windows that overlap (hopping, sliding): one accumulator per key and pane.

A window is a whole number of panes (``tables.windows``), so an entry is added once, whatever the kind of window, and a
window's value is the merge of its panes.  Memory is bounded by keys x panes that an open window still needs; nothing
grows with the number of entries, and a closed window leaves nothing behind: how far closing has come decides what is
late.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, TypeVar

from tables.aggregates import Aggregate
from tables.aligned import NO_ENTRIES, AlignedTable
from tables.bound import ABSENT
from tables.early import EarlyResults
from tables.windows import Span, Window
from topology.state import ClosedWindow

Amount = TypeVar("Amount")
Value = TypeVar("Value")


class PanedTable(AlignedTable[Amount, Value]):
    """Entries by key and window; made by ``Table.bind``.

    A late entry is still counted in those of its windows that are open (hopping), or yet to be seen (sliding).
    """

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
        self._closes = window.closes
        super().__init__(name, key, aggregate, keys_max, window=window, lateness_us=lateness_us, early=early)

    def _forget_everything(self) -> None:
        super()._forget_everything()
        self._starts: list[int] = []  # of all panes, as a heap
        self._starts_of: dict[str, list[int]] = {}  # of each key's panes, in order
        # The merge of all panes of a window but the newest, which holds until an older one changes.
        self._heads: dict[str, tuple[int, Any]] = {}

    def keys(self) -> list[str]:
        """The keys with entries, sorted."""
        return sorted(self._starts_of)

    def windows(self, key: str) -> list[tuple[Span, Value]]:
        """The windows of a key that are open, with their values, in order of their ends.

        Of a sliding table: the window as seen from each pane that holds entries.
        """
        starts = self._starts_of.get(key, ())
        if self._closes:
            ends = {end for start in starts for end in self._open_ends_of(start)}
        else:
            ends = {start + self._pane_us for start in starts}
        return [(Span(end - self._size_us, end), self._value_of(key, end)) for end in sorted(ends)]

    def _close(self, closed_up_to_us: int) -> list[ClosedWindow]:
        ending = self._ending_up_to(closed_up_to_us) if self._closes else {}
        self._close_up_to(closed_up_to_us)
        closed = [self._final_result(end, key) for end in sorted(ending) for key in sorted(ending[end])]
        while self._starts and self._starts[0] + self._size_us <= closed_up_to_us:
            start = heapq.heappop(self._starts)
            for key in list(self._panes.get(start, NO_ENTRIES)):
                self._drop_pane(key, start)
        return closed

    def _ending_up_to(self, closed_up_to_us: int) -> dict[int, set[str]]:
        """The ends of windows that are open now and will be closed then, with the keys that have entries in them."""
        ending: dict[int, set[str]] = {}
        for start, entries in self._panes.items():
            for end in self._open_ends_of(start):
                if end > closed_up_to_us:
                    break
                ending.setdefault(end, set()).update(entries)
        return ending

    def _put(self, key: str, at_us: int, amount: Amount) -> Any:
        start = at_us - at_us % self._pane_us
        if start + self._pane_us <= self._closed_up_to_us:
            self._report_late(key, at_us)
            if start + self._size_us <= self._closed_up_to_us:
                return ABSENT
        entries = self._panes.get(start, NO_ENTRIES)
        if key in entries:
            entries[key] = self._aggregate.add(entries[key], amount, at_us)
        else:
            self._open_pane(key, start, self._aggregate.add(self._aggregate.initial(), amount, at_us))
        self._touch(start, key)
        if self._early is not None:
            self._early.count(self._open_ends_of(start), key)
        head = self._heads.get(key)
        if head is not None and start != head[0] - self._pane_us:
            del self._heads[key]
        return ABSENT

    def _value(self, key: str, at_us: int | None) -> Value:
        if at_us is None:
            msg = f"table {self.name!r} has windows: ask for the value at an instant, table.value(key, at_us)"
            raise TypeError(msg)
        start = at_us - at_us % self._pane_us
        end = start + self._pane_us
        if self._closes and end <= self._closed_up_to_us:
            # The first of its windows that is still open: it has seen most.
            end = self._closed_up_to_us + self._pane_us
            if end > start + self._size_us:
                return self._aggregate.value(self._aggregate.initial(), self._size_us)
        return self._value_of(key, end)

    def _value_of(self, key: str, end: int) -> Value:
        aggregate, newest = self._aggregate, self._panes.get(end - self._pane_us, NO_ENTRIES)
        head = self._head_of(key, end)
        return aggregate.value(aggregate.merge(head, newest[key]) if key in newest else head, self._size_us)

    def _head_of(self, key: str, end: int) -> Any:
        """The merge of all panes of the window that ends at ``end``, but the newest."""
        known = self._heads.get(key)
        if known is not None and known[0] == end:
            return known[1]
        head = self._aggregate.initial()
        starts: Sequence[int] = self._starts_of.get(key, ())
        first, last = bisect_left(starts, end - self._size_us), bisect_left(starts, end - self._pane_us)
        for start in starts[first:last]:
            head = self._aggregate.merge(head, self._panes[start][key])
        if first < last:
            self._heads[key] = (end, head)
        return head

    def _open_ends_of(self, start: int) -> range:
        first = max(start, self._closed_up_to_us) + self._pane_us
        return range(first, start + self._size_us + 1, self._pane_us)

    def _open_pane(self, key: str, start: int, accumulated: Any) -> None:
        if key not in self._starts_of and len(self._starts_of) >= self._keys_max:
            self._evict()
        self._put_pane(key, start, accumulated)

    def _put_pane(self, key: str, start: int, accumulated: Any) -> None:
        entries = self._panes.get(start)
        if entries is None:
            entries = self._panes[start] = {}
            heapq.heappush(self._starts, start)
        entries[key] = accumulated
        insort(self._starts_of.setdefault(key, []), start)

    def _restore_row(self, instant: int, key: str, data: bytes) -> None:
        if key not in self._panes.get(instant, NO_ENTRIES):
            self._put_pane(key, instant, self._aggregate.decode(data))

    def _drop_pane(self, key: str, start: int) -> None:
        entries, starts = self._panes[start], self._starts_of[key]
        del entries[key]
        if not entries:
            del self._panes[start]
        starts.remove(start)
        if not starts:
            del self._starts_of[key]
        self._heads.pop(key, None)
        self._touch(start, key)

    def _evict(self) -> None:
        oldest = self._longest_silent(self._starts_of, lambda key: self._starts_of[key][-1])
        for key in oldest:
            for start in list(self._starts_of[key]):
                for end in self._open_ends_of(start) if self._early is not None else ():
                    self._give_no_more(end, key)
                self._drop_pane(key, start)
        self.evicted["keys_max"] += len(oldest)
