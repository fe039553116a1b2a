"""The running state of windowed tables: one accumulator per key and pane.

A window is a whole number of panes (``tables.windows``), so an entry is added once, whatever the kind of window, and a
window's value is the merge of its panes.  Memory is bounded by keys x panes that an open window still needs; nothing
grows with the number of entries, and a closed window leaves nothing behind: how far closing has come decides what is
late.

Rows: ``<start of pane in microseconds>|<key>`` holds an accumulator; ``closed`` holds the instant up to which every
window is closed, so that a restored table refuses the same late entries.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, TypeVar

from tables.aggregates import Aggregate
from tables.bound import BoundTable
from tables.windows import Span, Window
from topology.state import ClosedWindow, LateEntry

Amount = TypeVar("Amount")
Value = TypeVar("Value")

_CLOSED_ROW = "closed"
_NEVER = -(1 << 62)  # before every instant: nothing is closed yet
_NO_PANES: dict[int, Any] = {}  # of an unknown key; only ever read


class PanedTable(BoundTable[Amount, Value]):
    """Entries by key and window; made by ``Table.bind``.

    An entry is late when a window it belongs to is closed.  It is then reported by ``take_late``, and still counted in
    those of its windows that are open (hopping), or yet to be seen (sliding).  A closed window never changes.
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
        retain_us: int,
    ) -> None:
        super().__init__(name, key, aggregate, keys_max)
        self._size_us, self._pane_us, self._closes = window.size_us, window.pane_us, window.closes
        self._lateness_us, self._retain_us = lateness_us, retain_us
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._closed_up_to_us = _NEVER
        self._next_closing_us = _NEVER
        self._closing_moved = False
        self._panes: dict[str, dict[int, Any]] = {}
        self._ending = _Calendar()  # the ends of open windows, and whose
        self._starting = _Calendar()  # the starts of panes, and whose
        # A dict as an ordered set: rows are then written in the same order in every process.
        self._touched: dict[tuple[int, str], None] = {}
        # For windows of many panes: the merge of all but the newest, which holds until an older one changes.
        self._heads: dict[str, tuple[int, Any]] = {}

    def keys(self) -> list[str]:
        """The keys with entries, sorted."""
        return sorted(self._panes)

    def windows(self, key: str) -> list[tuple[Span, Value]]:
        """The windows of a key that are open or retained, with their values, in order of their ends.

        Of a sliding table: the window as seen from each pane that holds entries.
        """
        panes = self._panes.get(key, _NO_PANES)
        ends = {start + self._pane_us for start in panes}
        if self._closes and self._size_us > self._pane_us:
            ends = {end for start in panes for end in self._open_ends_of(start)}
        return [(Span(end - self._size_us, end), self._value_of(key, end)) for end in sorted(ends)]

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Close the windows that ended at or before the watermark less the table's own lateness.

        Costs one comparison while there is nothing to close: call it with every event, so that what is late does not
        depend on how events were batched.
        """
        if watermark_us < self._next_closing_us:
            return []
        reached_us = watermark_us - self._lateness_us
        self._close_up_to(reached_us - reached_us % self._pane_us)
        self._closing_moved = True
        closed: list[ClosedWindow] = []
        for end, keys in self._ending.due(self._closed_up_to_us):
            start = end - self._size_us
            closed += [
                ClosedWindow(self.name, key, start, end, self._value_of(key, end))
                for key in sorted(keys)
                if self._has_entries(key, end)
            ]
        for start, keys in self._starting.due(self._closed_up_to_us - self._size_us - self._retain_us):
            for key in keys:
                self._drop_pane(key, start)
        return closed

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Take over the rows of a snapshot or a folded changelog, in place of what was there."""
        self._forget_everything()
        rows = dict(entries)
        if _CLOSED_ROW in rows:
            self._close_up_to(int(rows.pop(_CLOSED_ROW)))
        for row, data in rows.items():
            start, _, key = row.partition("|")
            self._panes.setdefault(key, {})[int(start)] = self._aggregate.decode(data)
            self._plan(key, int(start))

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, each encoded once, however often it was touched."""
        changed: dict[str, bytes | None] = {}
        encode = self._aggregate.encode
        for start, key in self._touched:
            panes = self._panes.get(key, _NO_PANES)
            changed[f"{start}|{key}"] = encode(panes[start]) if start in panes else None
        if self._closing_moved:
            changed[_CLOSED_ROW] = b"%d" % self._closed_up_to_us
        self._touched, self._closing_moved = {}, False
        return changed

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""
        encode = self._aggregate.encode
        rows = {
            f"{start}|{key}": encode(accumulated)
            for key, panes in self._panes.items()
            for start, accumulated in panes.items()
        }
        if self._closed_up_to_us != _NEVER:
            rows[_CLOSED_ROW] = b"%d" % self._closed_up_to_us
        return rows

    def _add(self, key: str, at_us: int, amount: Amount) -> Value:
        start = at_us - at_us % self._pane_us
        if start + self._pane_us <= self._closed_up_to_us:
            self._late.append(LateEntry(self.name, key, at_us))
            if start + self._size_us <= self._closed_up_to_us:
                return self._value(key, at_us)
        panes = self._panes.get(key, _NO_PANES)
        known = start in panes
        accumulated = self._aggregate.add(panes[start] if known else self._aggregate.initial(), amount, at_us)
        if known:
            panes[start] = accumulated
        else:
            self._open_pane(key, start, accumulated)
        self._touched[start, key] = None
        if self._size_us == self._pane_us:
            return self._aggregate.value(accumulated, self._size_us)
        head = self._heads.get(key)
        if head is not None and start != head[0] - self._pane_us:
            del self._heads[key]
        return self._value(key, at_us)

    def _value(self, key: str, at_us: int | None) -> Value:
        if at_us is None:
            msg = f"table {self.name!r} has windows: ask for the value at an instant, table.value(key, at_us)"
            raise TypeError(msg)
        start = at_us - at_us % self._pane_us
        end = start + self._pane_us
        if self._closes and self._size_us > self._pane_us and end <= self._closed_up_to_us:
            # The first of its windows that is still open: it has seen most.
            end = self._closed_up_to_us + self._pane_us
            if end > start + self._size_us:
                return self._aggregate.value(self._aggregate.initial(), self._size_us)
        return self._value_of(key, end)

    def _value_of(self, key: str, end: int) -> Value:
        """The value of the window that ends at ``end``."""
        aggregate, panes = self._aggregate, self._panes.get(key, _NO_PANES)
        newest = end - self._pane_us
        if self._size_us == self._pane_us:
            return aggregate.value(panes[newest] if newest in panes else aggregate.initial(), self._size_us)
        head = self._head_of(key, panes, end)
        return aggregate.value(aggregate.merge(head, panes[newest]) if newest in panes else head, self._size_us)

    def _head_of(self, key: str, panes: dict[int, Any], end: int) -> Any:
        """The merge of all panes of the window that ends at ``end``, but the newest."""
        known = self._heads.get(key)
        if known is not None and known[0] == end:
            return known[1]
        head = self._aggregate.initial()
        wanted = range(end - self._size_us, end - self._pane_us, self._pane_us)
        # Go through whichever are fewer: a fine resolution has many more panes than there are entries.
        for start in wanted if len(wanted) <= len(panes) else sorted(panes):
            if start in panes and start in wanted:
                head = self._aggregate.merge(head, panes[start])
        if panes:
            self._heads[key] = (end, head)
        return head

    def _has_entries(self, key: str, end: int) -> bool:
        return any(end - self._size_us <= start < end for start in self._panes.get(key, _NO_PANES))

    def _open_ends_of(self, start: int) -> range:
        first = max(start, self._closed_up_to_us) + self._pane_us
        return range(first, start + self._size_us + 1, self._pane_us)

    def _open_pane(self, key: str, start: int, accumulated: Any) -> None:
        if key not in self._panes:
            if len(self._panes) >= self._keys_max:
                self._evict()
            self._panes[key] = {}
        self._panes[key][start] = accumulated
        self._plan(key, start)

    def _plan(self, key: str, start: int) -> None:
        """Note when a new pane's windows close and when the pane itself is no longer needed."""
        self._starting.put(start, key)
        if self._closes:
            for end in self._open_ends_of(start):
                self._ending.put(end, key)

    def _close_up_to(self, closed_up_to_us: int) -> None:
        self._closed_up_to_us = closed_up_to_us
        self._next_closing_us = closed_up_to_us + self._pane_us + self._lateness_us

    def _drop_pane(self, key: str, start: int) -> None:
        panes = self._panes.get(key)
        if panes is None or start not in panes:  # its key was evicted
            return
        del panes[start]
        if not panes:
            del self._panes[key]
        self._heads.pop(key, None)
        self._touched[start, key] = None

    def _evict(self) -> None:
        # A hundredth at a time, so that a flood of new keys costs a constant number of steps for each.
        count = max(1, self._keys_max // 100)
        oldest = heapq.nsmallest(count, self._panes, key=lambda key: (max(self._panes[key]), key))
        for key in oldest:
            for start in list(self._panes[key]):
                self._drop_pane(key, start)
        self.evicted += len(oldest)


class _Calendar:
    """Instants and the keys they concern, each instant kept once."""

    __slots__ = ("_heap", "_keys")

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._keys: dict[int, set[str]] = {}

    def put(self, at_us: int, key: str) -> None:
        keys = self._keys.get(at_us)
        if keys is None:
            heapq.heappush(self._heap, at_us)
            self._keys[at_us] = {key}
        else:
            keys.add(key)

    def due(self, up_to_us: int) -> list[tuple[int, set[str]]]:
        """Take out every instant up to this one, in order."""
        found: list[tuple[int, set[str]]] = []
        while self._heap and self._heap[0] <= up_to_us:
            at_us = heapq.heappop(self._heap)
            found.append((at_us, self._keys.pop(at_us)))
        return found
