"""Keyed state without arithmetic: one value of the agent's own per key, such as the incidents that are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, overload

from pydantic import TypeAdapter

from tables.table import KEYS_MAX, bound_state_of, refuse_limit_below_one
from topology.state import ClosedWindow, LateEntry

V = TypeVar("V")


class KeyedState(Generic[V]):
    """The values in one partition; made by ``Keyed.bind``.

    A value is stored when it is put; changing it afterwards is not noticed, so use frozen models and put the copy.
    Rows: ``<key>`` holds ``<ordinal of the put> <value as JSON>``; the ordinal keeps the order over a restart.

    Attributes:
        name: the state's name within its agent.
        evicted: how many values were dropped since the start because ``keys_max`` was reached.
    """

    def __init__(self, name: str, adapter: TypeAdapter[V], keys_max: int) -> None:
        self.name = name
        self.evicted = 0
        self._adapter = adapter
        self._keys_max = keys_max
        self._values: dict[str, tuple[int, V]] = {}  # the least recently put in front
        self._touched: dict[str, None] = {}
        self._puts = 0

    def get(self, key: str) -> V | None:
        """The value of a key; None when there is none."""
        known = self._values.get(key)
        return None if known is None else known[1]

    def put(self, key: str, value: V) -> None:
        """Set the value of a key; beyond ``keys_max`` the least recently put one is dropped."""
        self._values.pop(key, None)
        if len(self._values) >= self._keys_max:
            self.delete(next(iter(self._values)))
            self.evicted += 1
        self._puts += 1
        self._values[key] = (self._puts, value)
        self._touched[key] = None

    def delete(self, key: str) -> None:
        """Forget a key; nothing happens when it is not known."""
        if self._values.pop(key, None) is not None:
            self._touched[key] = None

    def items(self) -> list[tuple[str, V]]:
        """Keys and values, the least recently put first; a copy, so put and delete while going through it."""
        return [(key, value) for key, (_, value) in self._values.items()]

    def __contains__(self, key: str) -> bool:
        """Whether there is a value for the key."""
        return key in self._values

    def __len__(self) -> int:
        """How many values there are."""
        return len(self._values)

    def restore(self, entries: Mapping[str, bytes]) -> None:
        """Take over the rows of a snapshot or a folded changelog, in place of what was there.

        Raises:
            pydantic.ValidationError: a row does not fit the value's type any more.
        """
        rows: list[tuple[int, str, V]] = []
        for key, data in entries.items():
            ordinal, _, value = data.partition(b" ")
            rows.append((int(ordinal), key, self._adapter.validate_json(value)))
        rows.sort(key=lambda row: row[0])
        self._values = {key: (ordinal, value) for ordinal, key, value in rows}
        self._puts = rows[-1][0] if rows else 0
        self._touched = {}

    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, each encoded once, however often it was touched."""
        touched, self._touched = self._touched, {}
        return {key: self._row(key) if key in self._values else None for key in touched}

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""
        return {key: self._row(key) for key in self._values}

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Nothing closes here."""
        del watermark_us
        return []

    def take_late(self) -> list[LateEntry]:
        """Nothing is late here."""
        return []

    def _row(self, key: str) -> bytes:
        ordinal, value = self._values[key]
        return b"%d %b" % (ordinal, self._adapter.dump_json(value))


class Keyed(Generic[V]):
    """Declare keyed state as a class attribute of an agent; the instance answers its ``KeyedState``.

    Args:
        name: unique within the agent; names the rows for ever.
        value: a pydantic model, or any type pydantic can read from JSON.
        keys_max: how many keys a partition may hold.

    Example:
        >>> open_incidents = Keyed("open_incidents", value=dict[str, str])
        >>> state = open_incidents.bind()
        >>> state.put("ledger", {"id": "7"})
        >>> state.get("ledger")
        {'id': '7'}
    """

    def __init__(self, name: str, *, value: type[V], keys_max: int = KEYS_MAX) -> None:
        refuse_limit_below_one(name, keys_max)
        self.name = name
        self._adapter: TypeAdapter[V] = TypeAdapter(value)
        self._keys_max = keys_max

    def bind(self) -> KeyedState[V]:
        """A new, empty running state."""
        return KeyedState(self.name, self._adapter, self._keys_max)

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
