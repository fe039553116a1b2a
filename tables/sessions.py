"""The running state of session windows: per key the open sessions, and where the last closed one ended.

An entry makes a session of its own, which becomes one with every open session it overlaps; so an entry in between can
make one of two.  The sessions of a key never overlap, closed ones included: an entry that would reach into a closed
session is late.  So each entry is in exactly one session or reported as late.

Memory is bounded by keys x sessions that are open at once, which is one when entries come in order.

Rows: ``<start of session in microseconds>|<key>`` holds ``<end> <accumulator>``, or ``<end>`` alone for the key's last
closed session, as long as an entry could still reach into it.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, TypeVar

from tables.aggregates import Aggregate
from tables.bound import ABSENT
from tables.windowed import NEVER, WindowedTable
from tables.windows import Span
from topology.state import ClosedWindow

Amount = TypeVar("Amount")
Value = TypeVar("Value")

_PARTS_OF_GAP = 8
_start = itemgetter(0)

_Open = tuple[int, int, Any]  # start, end and accumulator of an open session
_Looks = list[str]  # keys to look at again


class _OfKey:
    """What is known of one key: its open sessions, the last closed one, and among which keys it waits to be looked at.

    Nearly every key has one open session, so the first has no container of its own: an entry of a table is what counts.
    """

    __slots__ = ("closed", "end", "held", "looked_at_with", "others", "start")

    start: int
    end: int
    held: Any

    def __init__(self) -> None:
        self.closed: Span | None = None
        self.others: tuple[_Open, ...] | None = None  # after the first one; None when there is none at all
        self.looked_at_with: _Looks | None = None

    @property
    def sessions(self) -> list[_Open]:
        """Its open sessions, in order."""
        return [] if self.others is None else [(self.start, self.end, self.held), *self.others]

    @sessions.setter
    def sessions(self, found: list[_Open]) -> None:
        if found:
            self.start, self.end, self.held = found[0]
            self.others = tuple(found[1:])
        else:
            self.held = self.others = None

    @property
    def latest_us(self) -> int:
        """Where its last session ends."""
        if self.others is not None:
            return self.others[-1][1] if self.others else self.end
        return NEVER if self.closed is None else self.closed.end_us


class SessionTable(WindowedTable[Amount, Value]):
    """Entries by key and session; made by ``Table.bind``.

    A session closes when the watermark, less the table's lateness, reaches its end: its last entry plus the gap.  The
    size of a session, as rates take it, is from its first entry to its end.
    """

    def __init__(
        self,
        name: str,
        key: str,
        aggregate: Aggregate[Amount, Any, Value],
        keys_max: int,
        *,
        gap_us: int,
        lateness_us: int,
    ) -> None:
        super().__init__(name, key, aggregate, keys_max, lateness_us=lateness_us)
        self._gap_us = gap_us
        self._apart_us = max(1, gap_us // _PARTS_OF_GAP)
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._keys: dict[str, _OfKey] = {}
        # When to look at which key again.  Keys whose time is far off wait together, which takes a few bytes each; those
        # of a time that has come are put in order.  A key waits where it says; if it is found elsewhere, that is stale.
        self._later: dict[int, _Looks] = {}
        self._times: list[int] = []  # the keys of ``_later``, as a heap
        self._now: list[tuple[int, str]] = []  # a heap
        self._with_now: _Looks = []
        self._waiting = 0

    def keys(self) -> list[str]:
        """The keys with open sessions, sorted."""
        return sorted(key for key, known in self._keys.items() if known.others is not None)

    def windows(self, key: str) -> list[tuple[Span, Value]]:
        """The open sessions of a key, with their values, in order."""
        known = self._keys.get(key)
        found = [] if known is None else known.sessions
        return [(Span(start, end), self._aggregate.value(held, end - start)) for start, end, held in found]

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Close the sessions that ended at or before the watermark less the table's own lateness.

        Costs two comparisons while there is nothing to close: call it with every event, so that what is late does not
        depend on how events were batched.
        """
        reached_us = watermark_us - self._lateness_us
        if reached_us <= self._closed_up_to_us:
            return []
        self._closed_up_to_us, self._closing_moved = reached_us, True
        closed: list[ClosedWindow] = []
        while self._times and self._times[0] * self._apart_us <= reached_us:
            self._come_to(self._later.pop(heapq.heappop(self._times)))
        while self._now and self._now[0][0] <= reached_us:
            _, key = heapq.heappop(self._now)
            self._waiting -= 1
            known = self._keys.get(key)
            if known is not None and known.looked_at_with is self._with_now:
                known.looked_at_with = None
                closed += self._close_sessions(key, known)
        closed.sort(key=lambda window: (window.end_us, window.key))
        return closed

    def _close_sessions(self, key: str, known: _OfKey) -> Iterable[ClosedWindow]:
        sessions = known.sessions
        while sessions and sessions[0][1] <= self._closed_up_to_us:
            start, end, held = sessions.pop(0)
            yield ClosedWindow(self.name, key, start, end, self._aggregate.value(held, end - start))
            if known.closed is not None:
                self._touch(known.closed.start_us, key)
            known.closed = Span(start, end)
            self._touch(start, key)
        known.sessions = sessions
        if sessions or known.latest_us + self._gap_us > self._closed_up_to_us:
            self._look_again(key, known)
        else:
            self._drop(key)

    def _put(self, key: str, at_us: int, amount: Amount) -> Any:
        known = self._keys.get(key)
        end = at_us + self._gap_us
        if known is not None and known.others == () and known.start <= at_us < known.end:  # as nearly always
            known.held = self._aggregate.add(known.held, amount, at_us)
            known.end = max(known.end, end)
            self._touch(known.start, key)
            return ABSENT
        sessions = [] if known is None else known.sessions
        overlapping = [one for one in sessions if one[0] < end and at_us < one[1]]
        reaches_into_closed = known is not None and known.closed is not None and at_us < known.closed.end_us
        if reaches_into_closed or (end <= self._closed_up_to_us and not overlapping):
            self._report_late(key, at_us)
            return ABSENT
        start, held = at_us, self._aggregate.initial()
        if overlapping:
            start, end = min(at_us, overlapping[0][0]), max(end, overlapping[-1][1])
            held = overlapping[0][2]
            for _, _, more in overlapping[1:]:
                held = self._aggregate.merge(held, more)
        held = self._aggregate.add(held, amount, at_us)
        if known is None:
            known = self._make_room(key)
        first_end = sessions[0][1] if sessions else NEVER
        for one in overlapping:
            sessions.remove(one)
            self._touch(one[0], key)
        insort(sessions, (start, end, held), key=_start)
        known.sessions = sessions
        self._touch(start, key)
        if known.looked_at_with is None or known.end < first_end:
            self._look_again(key, known)
        return ABSENT

    def _value(self, key: str, at_us: int | None) -> Value:
        if at_us is None:
            msg = f"table {self.name!r} has windows: ask for the value at an instant, table.value(key, at_us)"
            raise TypeError(msg)
        known = self._keys.get(key)
        for start, end, held in [] if known is None else known.sessions:
            if start <= at_us < end:
                return self._aggregate.value(held, end - start)
        return self._aggregate.value(self._aggregate.initial(), self._gap_us)

    def _look_again(self, key: str, known: _OfKey) -> None:
        look_us = known.end if known.others is not None else known.latest_us + self._gap_us
        time = look_us // self._apart_us
        if time * self._apart_us <= self._closed_up_to_us:
            known.looked_at_with = self._with_now
            heapq.heappush(self._now, (look_us, key))
        else:
            later = self._later.get(time)
            if later is None:
                later = self._later[time] = []
                heapq.heappush(self._times, time)
            if known.looked_at_with is later:
                return
            known.looked_at_with = later
            later.append(key)
        self._waiting += 1
        if self._waiting > 2 * len(self._keys) + 100:  # most of them are of keys that were evicted
            self._wait_anew()

    def _come_to(self, looks: _Looks) -> None:
        self._waiting -= len(looks)
        for key in looks:
            known = self._keys.get(key)
            if known is not None and known.looked_at_with is looks:
                self._look_again(key, known)

    def _wait_anew(self) -> None:
        self._later, self._times, self._now, self._waiting = {}, [], [], 0
        for key, known in self._keys.items():
            known.looked_at_with = None
            self._look_again(key, known)

    def _make_room(self, key: str) -> _OfKey:
        if len(self._keys) >= self._keys_max:
            self._evict()
        known = self._keys[key] = _OfKey()
        return known

    def _drop(self, key: str) -> None:
        known = self._keys.pop(key)
        for start, _, _ in known.sessions:
            self._touch(start, key)
        if known.closed is not None:
            self._touch(known.closed.start_us, key)

    def _evict(self) -> None:
        oldest = self._longest_silent(self._keys, lambda key: self._keys[key].latest_us)
        for key in oldest:
            self._drop(key)
        self.evicted["keys_max"] += len(oldest)

    def _restore_row(self, instant: int, key: str, data: bytes) -> None:
        known = self._keys.get(key)
        if known is None:
            known = self._keys[key] = _OfKey()
        end, open_still, held = data.partition(b" ")
        if open_still:
            sessions = [one for one in known.sessions if one[0] != instant]
            insort(sessions, (instant, int(end), self._aggregate.decode(held)), key=_start)
            known.sessions = sessions
        else:
            known.closed = Span(instant, int(end))
        self._look_again(key, known)

    def _rows_at(self, instant: int, keys: Iterable[str]) -> dict[str, bytes | None]:
        return {f"{instant}|{key}": self._row(instant, key) for key in keys}

    def _all_rows(self) -> dict[str, bytes]:
        rows = {}
        for key, known in self._keys.items():
            starts = [start for start, _, _ in known.sessions]
            if known.closed is not None:
                starts.append(known.closed.start_us)
            for start in starts:
                rows[f"{start}|{key}"] = self._row(start, key) or b""
        return rows

    def _row(self, start_us: int, key: str) -> bytes | None:
        known = self._keys.get(key)
        if known is None:
            return None
        if known.closed is not None and known.closed.start_us == start_us:
            return b"%d" % known.closed.end_us
        for start, end, held in known.sessions:
            if start == start_us:
                return b"%d %b" % (end, self._aggregate.encode(held))
        return None

    def _close_up_to(self, closed_up_to_us: int) -> None:
        self._closed_up_to_us = closed_up_to_us
