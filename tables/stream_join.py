"""Two kinds of events joined that happened close together: both wait for each other, as long as the other may come.

Left and right are not alike: a right one belongs to a left one when it happened at most ``before`` earlier and at most
``after`` later.  Of entries on time each pair is found exactly once, when the second of both comes, whatever their order.
An entry behind the watermark is late: it is reported and joins nothing, for what it belongs to may be gone.

Rows: ``<l or r>|<time in microseconds>|<number at that time>|<key>`` holds ``<1 if it found something, else 0> <JSON>``;
``closed`` holds how far the watermark has come.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar, overload

from pydantic import TypeAdapter

from tables.key_field import Happened, KeyField
from tables.table import KEYS_MAX, bound_state_of
from topology.errors import ConfigurationError
from topology.moments import span_us
from topology.state import ClosedWindow, LateEntry

Left = TypeVar("Left")
Right = TypeVar("Right")

_CLOSED_ROW = "closed"
_NEVER = -(1 << 62)


class Pair(NamedTuple, Generic[Left, Right]):
    """Two that belong together, and when each happened, in microseconds since the epoch."""

    left: Left
    right: Right
    left_at_us: int
    right_at_us: int


class _Waiting:
    """An entry that waits for others; ``number`` tells apart those of one key and instant."""

    __slots__ = ("at_us", "matched", "number", "payload")

    def __init__(self, at_us: int, number: int, payload: Any, matched: bool) -> None:
        self.at_us, self.number, self.payload, self.matched = at_us, number, payload, matched


class _Side:
    """The entries of one kind, by key in the order they happened."""

    def __init__(self, letter: str, kind: type[Any], key: KeyField) -> None:
        self.letter, self.kind, self.key = letter, kind, key
        self.adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self.by_key: dict[str, list[_Waiting]] = {}
        self.order: list[tuple[int, str]] = []  # one for each entry, as a heap

    def insert(self, key: str, at_us: int, payload: Any) -> _Waiting:
        waiting = self.by_key.setdefault(key, [])
        place = bisect_right(waiting, at_us, key=_at_us)
        number = waiting[place - 1].number + 1 if place and waiting[place - 1].at_us == at_us else 0
        entry = _Waiting(at_us, number, payload, matched=False)
        waiting.insert(place, entry)
        heapq.heappush(self.order, (at_us, key))
        return entry

    def take_back(self, key: str, entry: _Waiting) -> None:
        """An entry that was stored; nothing happens when it is here already."""
        waiting = self.by_key.setdefault(key, [])
        place = bisect_left(waiting, _order(entry), key=_order)
        if place == len(waiting) or _order(waiting[place]) != _order(entry):
            waiting.insert(place, entry)
            heapq.heappush(self.order, (entry.at_us, key))

    def between(self, key: str, first_us: int, last_us: int) -> list[_Waiting]:
        waiting = self.by_key.get(key, [])
        return waiting[bisect_left(waiting, first_us, key=_at_us) : bisect_right(waiting, last_us, key=_at_us)]

    def pop_oldest(self) -> tuple[str, _Waiting]:
        # The heap goes by time, so what it names is the first of its key.
        _, key = heapq.heappop(self.order)
        waiting = self.by_key[key]
        entry = waiting.pop(0)
        if not waiting:
            del self.by_key[key]
        return key, entry

    def rows(self) -> Iterator[tuple[str, _Waiting]]:
        for key, waiting in self.by_key.items():
            for entry in waiting:
                yield self.row_of(key, entry), entry

    def row_of(self, key: str, entry: _Waiting) -> str:
        return f"{self.letter}|{entry.at_us}|{entry.number}|{key}"

    def encode(self, entry: _Waiting) -> bytes:
        return b"%d %b" % (entry.matched, self.adapter.dump_json(entry.payload))


class StreamJoin(Generic[Left, Right]):
    """The entries that wait in one partition; made by ``JoinedStreams.bind``.

    Attributes:
        name: the join's name within its agent.
        late: what came behind the watermark, since the last ``take_late``.
        evicted: how many entries were dropped since the start because ``entries_max`` was reached.
    """

    def __init__(self, declared: JoinedStreams[Left, Right]) -> None:
        self.name = declared.name
        self.evicted = {"entries_max": 0}
        self._declared = declared
        self._before_us, self._after_us = span_us(declared.before), span_us(declared.after)
        self._lateness_us = span_us(declared.lateness)
        self.late: list[LateEntry] = []
        self._forget_everything()

    def _forget_everything(self) -> None:
        declared = self._declared
        self._left = _Side("l", declared.left, KeyField(declared.name, declared.key))
        self._right = _Side("r", declared.right, KeyField(declared.name, declared.right_key))
        self._touched: dict[str, tuple[_Side, _Waiting] | None] = {}
        self._closed_up_to_us = _NEVER
        self._closing_moved = False

    def __len__(self) -> int:
        """How many entries wait."""
        return len(self._left.order) + len(self._right.order)

    def add(self, event: Happened) -> list[Pair[Left, Right]]:
        """Take in an event and answer the pairs it makes with earlier ones, in the order those happened.

        Events of neither type are passed over.

        Raises:
            PoisonedEventError: the event has no key.
        """
        is_left = isinstance(event.payload, self._left.kind)
        if not is_left and not isinstance(event.payload, self._right.kind):
            return []
        mine, others = (self._left, self._right) if is_left else (self._right, self._left)
        key, at_us = mine.key.of(event), event.at_us
        if at_us < self._closed_up_to_us:
            self.late.append(LateEntry(self.name, key, at_us))
            return []
        if len(self) >= self._declared.entries_max:
            self._evict()
        entry = mine.insert(key, at_us, event.payload)
        earlier_us, later_us = (self._before_us, self._after_us) if is_left else (self._after_us, self._before_us)
        pairs: list[Pair[Left, Right]] = []
        for other in others.between(key, at_us - earlier_us, at_us + later_us):
            left, right = (entry, other) if is_left else (other, entry)
            pairs.append(Pair(left.payload, right.payload, left.at_us, right.at_us))
            if self._declared.keep_unmatched and not left.matched:
                left.matched = True
                self._touched[self._left.row_of(key, left)] = (self._left, left)
        self._touched[mine.row_of(key, entry)] = (mine, entry)
        return pairs

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Drop what nothing can belong to any more; with ``keep_unmatched``, report the left ones that found nothing.

        Those of one key and instant are one result: ``value`` is a tuple of their payloads, ``start_us`` when they
        happened, and up to ``end_us`` a right one could have come.
        """
        reached_us = watermark_us - self._lateness_us
        if reached_us <= self._closed_up_to_us:
            return []
        self._closed_up_to_us, self._closing_moved = reached_us, True
        unmatched: dict[tuple[int, str], list[Left]] = {}
        while self._left.order and self._left.order[0][0] + self._after_us < reached_us:
            key, entry = self._drop_oldest(self._left)
            if self._declared.keep_unmatched and not entry.matched:
                unmatched.setdefault((entry.at_us, key), []).append(entry.payload)
        while self._right.order and self._right.order[0][0] + self._before_us < reached_us:
            self._drop_oldest(self._right)
        return [
            ClosedWindow(self.name, key, at_us, at_us + self._after_us + 1, tuple(payloads))
            for (at_us, key), payloads in sorted(unmatched.items(), key=lambda item: item[0])
        ]

    def take_late(self) -> list[LateEntry]:
        """What came behind the watermark, since the last call."""
        late, self.late = self.late, []
        return late

    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None:
        """Take over rows of a snapshot or a folded changelog, into a new state; see ``topology.state.BoundState``.

        Raises:
            pydantic.ValidationError: a row does not fit its type any more.
        """
        for row, data in entries.items():
            if row == _CLOSED_ROW:
                self._closed_up_to_us = int(data)
                continue
            letter, at, number, key = row.split("|", 3)
            side = self._left if letter == "l" else self._right
            matched, _, payload = data.partition(b" ")
            entry = _Waiting(int(at), int(number), side.adapter.validate_json(payload), matched == b"1")
            side.take_back(key, entry)

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call; None means deleted."""
        touched, self._touched = self._touched, {}
        changed = {row: None if found is None else found[0].encode(found[1]) for row, found in touched.items()}
        if self._closing_moved:
            changed[_CLOSED_ROW] = b"%d" % self._closed_up_to_us
            self._closing_moved = False
        return changed

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""
        rows = {row: side.encode(entry) for side in (self._left, self._right) for row, entry in side.rows()}
        if self._closed_up_to_us != _NEVER:
            rows[_CLOSED_ROW] = b"%d" % self._closed_up_to_us
        return rows

    def _drop_oldest(self, side: _Side) -> tuple[str, _Waiting]:
        key, entry = side.pop_oldest()
        self._touched[side.row_of(key, entry)] = None
        return key, entry

    def _evict(self) -> None:
        # A hundredth at a time, as tables do.
        for _ in range(max(1, self._declared.entries_max // 100, len(self) - self._declared.entries_max + 1)):
            left, right = self._left.order, self._right.order
            self._drop_oldest(self._left if left and (not right or left[0] <= right[0]) else self._right)
            self.evicted["entries_max"] += 1


class JoinedStreams(Generic[Left, Right]):
    """Declare a join of two event types as a class attribute of an agent; the instance answers its ``StreamJoin``.

    The agent consumes both types and gives each event to ``add``.

    Args:
        name: unique within the agent; names the rows for ever.
        left, right: the payload types.
        key: the field that must be equal, as a dotted path.
        right_key: the right one's field, where it has another name.
        before: how much earlier than the left one a right one may have happened.
        after: how much later.
        keep_unmatched: whether left ones that found nothing are reported to ``window_closed`` (a left join).
        lateness: how much longer than the stage's own allowed lateness to wait before anything is late.
        entries_max: how many entries of both kinds a partition may hold; beyond it the oldest are dropped and counted.
            An entry takes about 400 bytes and its payload.
    """

    def __init__(
        self,
        name: str,
        *,
        left: type[Left],
        right: type[Right],
        key: str = "service",
        right_key: str | None = None,
        before: timedelta = timedelta(0),
        after: timedelta = timedelta(0),
        keep_unmatched: bool = False,
        lateness: timedelta = timedelta(0),
        entries_max: int = KEYS_MAX,
    ) -> None:
        found = ""
        if issubclass(left, right) or issubclass(right, left):
            found = f"{left.__name__} on the left and {right.__name__} on the right; expected types that are not alike"
        elif min(before, after, lateness) < timedelta(0):
            found = f"before={before}, after={after}, lateness={lateness}; expected zero or more"
        elif entries_max < 1:
            found = f"entries_max={entries_max}, expected 1 or more"
        if found:
            msg = f"join {name!r} has {found}"
            raise ConfigurationError(msg)
        self.name = name
        self.left, self.right = left, right
        self.key, self.right_key = key, key if right_key is None else right_key
        self.before, self.after, self.lateness = before, after, lateness
        self.keep_unmatched = keep_unmatched
        self.entries_max = entries_max

    def bind(self) -> StreamJoin[Left, Right]:
        """A new, empty running state."""
        return StreamJoin(self)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> JoinedStreams[Left, Right]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> StreamJoin[Left, Right]: ...
    def __get__(
        self, instance: object | None, owner: type[Any]
    ) -> JoinedStreams[Left, Right] | StreamJoin[Left, Right]:
        """The declaration on the class, the running state on an instance."""
        if instance is None:
            return self
        found: StreamJoin[Left, Right] = bound_state_of(instance, self.name)
        return found


def _at_us(entry: _Waiting) -> int:
    return entry.at_us


def _order(entry: _Waiting) -> tuple[int, int]:
    return entry.at_us, entry.number
