"""Keyed state without arithmetic: one value of the agent's own per key, such as the incidents that are open."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar, overload

from pydantic import TypeAdapter

from tables.table import KEYS_MAX, bound_state_of, refuse_limit_below_one
from topology.errors import ConfigurationError
from topology.moments import span_us
from topology.state import ClosedWindow, LateEntry

V = TypeVar("V")


class KeyedState(Generic[V]):
    """The values in one partition; made by ``Keyed.bind``.

    A value is stored when it is put; changing it afterwards is not noticed, so use frozen models and put the copy.
    Rows: ``<key>`` holds ``<ordinal of the put> <value as JSON>``; the ordinal keeps the order over a restart.  With a
    retention it is ``<ordinal>@<time of the put>``.

    Attributes:
        name: the state's name within its agent.
        evicted: how many values were dropped since the start, by the bound that made them go: ``keys_max``, ``retain``.
    """

    def __init__(self, name: str, adapter: TypeAdapter[V], keys_max: int, retain_us: int | None = None) -> None:
        self.name = name
        self.evicted = {"keys_max": 0} if retain_us is None else {"keys_max": 0, "retain": 0}
        self._adapter = adapter
        self._keys_max = keys_max
        self._retain_us = retain_us
        self._values: dict[str, tuple[int, V, int]] = {}  # ordinal, value and time; the least recently put in front
        self._expiring: list[tuple[int, str]] = []
        self._touched: dict[str, None] = {}
        self._puts = 0

    def get(self, key: str) -> V | None:
        """The value of a key; None when there is none."""
        known = self._values.get(key)
        return None if known is None else known[1]

    def put(self, key: str, value: V, at_us: int | None = None) -> None:
        """Set the value of a key; beyond ``keys_max`` the least recently put one is dropped.

        Args:
            at_us: when this became so; needed where values are retained for a time, and unused elsewhere.
        """
        if at_us is None:
            if self._retain_us is not None:
                msg = f"{self.name!r} retains values for a time; pass at_us, the time of the event"
                raise TypeError(msg)
            at_us = 0
        self._values.pop(key, None)
        if len(self._values) >= self._keys_max:
            self.delete(next(iter(self._values)))
            self.evicted["keys_max"] += 1
        self._puts += 1
        self._values[key] = (self._puts, value, at_us)
        self._watch(key, at_us)
        self._touched[key] = None

    def delete(self, key: str) -> None:
        """Forget a key; nothing happens when it is not known."""
        if self._values.pop(key, None) is not None:
            self._touched[key] = None

    def items(self) -> list[tuple[str, V]]:
        """Keys and values, the least recently put first; a copy, so put and delete while going through it."""
        return [(key, value) for key, (_, value, _) in self._values.items()]

    def __contains__(self, key: str) -> bool:
        """Whether there is a value for the key."""
        return key in self._values

    def __len__(self) -> int:
        """How many values there are."""
        return len(self._values)

    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None:
        """Take over rows of a snapshot or a folded changelog, into a new state; see ``topology.state.BoundState``.

        Raises:
            pydantic.ValidationError: a row does not fit the value's type any more.
        """
        for key, data in entries.items():
            put, _, value = data.partition(b" ")
            ordinal, _, put_us = put.partition(b"@")
            at_us = int(put_us or b"0")
            if key not in self._values:
                self._values[key] = (int(ordinal), self._adapter.validate_json(value), at_us)
                self._watch(key, at_us)
        if last:
            self._values = dict(sorted(self._values.items(), key=lambda item: item[1][0]))
            self._puts = max((ordinal for ordinal, _, _ in self._values.values()), default=0)

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, each encoded once, however often it was touched."""
        touched, self._touched = self._touched, {}
        return {key: self._row(key) if key in self._values else None for key in touched}

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""
        return {key: self._row(key) for key in self._values}

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Drop what was put as long ago as values are retained; nothing closes here."""
        if self._retain_us is None:
            return []
        put_before_us = watermark_us - self._retain_us
        while self._expiring and self._expiring[0][0] <= put_before_us:
            _, key = heapq.heappop(self._expiring)
            if key in self._values and self._values[key][2] <= put_before_us:
                self.delete(key)
                self.evicted["retain"] += 1
        return []

    late: ClassVar[Sequence[LateEntry]] = ()

    def take_late(self) -> list[LateEntry]:
        """Nothing is late here."""
        return []

    def _row(self, key: str) -> bytes:
        ordinal, value, at_us = self._values[key]
        put = b"%d" % ordinal if self._retain_us is None else b"%d@%d" % (ordinal, at_us)
        return b"%b %b" % (put, self._adapter.dump_json(value))

    def _watch(self, key: str, at_us: int) -> None:
        if self._retain_us is None:
            return
        heapq.heappush(self._expiring, (at_us, key))
        if len(self._expiring) > 2 * len(self._values) + 100:  # most of them were put again, or are gone
            self._expiring = [(put_us, known) for known, (_, _, put_us) in self._values.items()]
            heapq.heapify(self._expiring)


class Keyed(Generic[V]):
    """Declare keyed state as a class attribute of an agent; the instance answers its ``KeyedState``.

    Args:
        name: unique within the agent; names the rows for ever.
        value: a pydantic model, or any type pydantic can read from JSON.
        keys_max: how many keys a partition may hold.
        retain: how long a value is kept after it was put, in event time; for ever by default.

    Example:
        >>> open_incidents = Keyed("open_incidents", value=dict[str, str])
        >>> state = open_incidents.bind()
        >>> state.put("ledger", {"id": "7"})
        >>> state.get("ledger")
        {'id': '7'}
    """

    def __init__(self, name: str, *, value: type[V], keys_max: int = KEYS_MAX, retain: timedelta | None = None) -> None:
        refuse_limit_below_one(name, keys_max)
        if retain is not None and retain < timedelta(0):
            msg = f"{name!r} has a retention of {retain}; expected zero or more"
            raise ConfigurationError(msg)
        self.name = name
        self._adapter: TypeAdapter[V] = TypeAdapter(value)
        self._keys_max = keys_max
        self._retain_us = None if retain is None else span_us(retain)

    def bind(self) -> KeyedState[V]:
        """A new, empty running state."""
        return KeyedState(self.name, self._adapter, self._keys_max, self._retain_us)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Keyed[V]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> KeyedState[V]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Keyed[V] | KeyedState[V]:
        """The declaration on the class, the running state on an instance."""
        if instance is None:
            return self
        found: KeyedState[V] = bound_state_of(instance, self.name)
        return found
