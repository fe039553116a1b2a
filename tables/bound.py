"""What an agent sees of a table while it runs: add an entry, read a value."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Generic, TypeVar

from tables.aggregates import Aggregate
from tables.key_field import Happened, KeyField
from topology.state import ClosedWindow, LateEntry

Amount = TypeVar("Amount")
Value = TypeVar("Value")

ABSENT: Final[Any] = object()
"""Stands for an accumulator that is not there; None may be one."""


class BoundTable(ABC, Generic[Amount, Value]):
    """The running state of one ``tables.Table`` in one partition.

    Time is what the events say, never a clock.  Values read are those of this partition only, so key the stream by what
    the table is keyed by, or by something coarser.

    Attributes:
        name: the table's name within its agent.
        late: what came after a window it belongs to was closed, since the last ``take_late``.
        evicted: how many keys were dropped since the start, by the bound that made them go: ``keys_max``, ``retain``.
    """

    def __init__(self, name: str, key: str, aggregate: Aggregate[Amount, Any, Value], keys_max: int) -> None:
        self.name = name
        self.evicted: dict[str, int] = {"keys_max": 0}
        self._key = KeyField(name, key).of
        self._aggregate = aggregate
        self._unit_amount: Any = aggregate.unit_amount
        self._keys_max = keys_max
        self._size_us = 0  # of a window; tables that have windows of one size set it
        self.late: list[LateEntry] = []

    def add(self, subject: Happened | str, at_us: int | None = None, amount: Amount | None = None) -> Value:
        """Take in one entry and answer the value that holds with it.

        Args:
            subject: an event, which tells key and time; or a key, and then ``at_us`` is needed.
            at_us: when the entry happened, if not when the event did.
            amount: what the entry amounts to; counts and rates take it as 1.

        Raises:
            PoisonedEventError: the event has no such key, or its amount cannot be computed with.
        """
        if amount is None:
            amount = self._unit_amount
        if at_us is None and amount is not None and not isinstance(subject, str):
            key, at_us = self._key(subject), subject.at_us
        else:
            key, at_us, amount = self._entry(subject, at_us, amount)
        accumulated = self._put(key, at_us, amount)
        if accumulated is ABSENT:
            return self._value(key, at_us)
        return self._aggregate.value(accumulated, self._size_us)

    def put(self, subject: Happened | str, at_us: int | None = None, amount: Amount | None = None) -> None:
        """Take in one entry like ``add``, and compute no value.

        Values of sketches and of windows that overlap take longer to compute than an entry takes to add; where the value
        is only wanted when the window closes, this is several times faster.

        Raises:
            PoisonedEventError: the event has no such key, or its amount cannot be computed with.
        """
        if amount is None:
            amount = self._unit_amount
        if amount is None or at_us is None or not isinstance(subject, str):
            subject, at_us, amount = self._entry(subject, at_us, amount)
        self._put(subject, at_us, amount)

    def value(self, subject: Happened | str, at_us: int | None = None) -> Value:
        """The value of a key as seen from an instant, by default the event's; adds nothing.

        Raises:
            PoisonedEventError: the event has no such key.
        """
        if isinstance(subject, str):
            return self._value(subject, at_us)
        return self._value(self._key(subject), subject.at_us if at_us is None else at_us)

    def __getitem__(self, subject: Happened | str | tuple[str, int]) -> Value:
        """``table[event]``, ``table[key, at_us]``, and without a window ``table[key]``; see ``value``."""
        if isinstance(subject, tuple):
            return self._value(*subject)
        return self.value(subject)

    def take_late(self) -> list[LateEntry]:
        """What came after a window it belongs to was closed, since the last call."""
        late, self.late = self.late, []
        return late

    @abstractmethod
    def keys(self) -> list[str]:
        """The keys with entries, sorted."""

    @abstractmethod
    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None:
        """Take over rows of a snapshot or a folded changelog, into a new state; see ``topology.state.BoundState``."""

    @abstractmethod
    def changes(self) -> dict[str, bytes | None]:
        """The rows touched since the last call, encoded; None means deleted."""

    @abstractmethod
    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded; equals the fold of all changes."""

    @abstractmethod
    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Close what the watermark has passed, in order of (end, key); an older watermark changes nothing."""

    @abstractmethod
    def _put(self, key: str, at_us: int, amount: Amount) -> Any:
        """Take in one entry; answers the accumulator whose value holds with it, or ABSENT when that must be found."""

    @abstractmethod
    def _value(self, key: str, at_us: int | None) -> Value: ...

    def _entry(self, subject: Happened | str, at_us: int | None, amount: Amount | None) -> tuple[str, int, Amount]:
        """Key, time and amount of an entry, from what ``add`` and ``put`` were given."""
        if isinstance(subject, str):
            key = subject
        else:
            key = self._key(subject)
            if at_us is None:
                at_us = subject.at_us
        if at_us is None:
            msg = f"table {self.name!r} was given key {key!r} without a time; pass at_us, or the event itself"
            raise TypeError(msg)
        if amount is None:
            kind = type(self._aggregate).__name__
            msg = f"table {self.name!r} computes {kind} of amounts and was given none; pass amount="
            raise TypeError(msg)
        return key, at_us, amount

    def _longest_silent(self, keys: Collection[str], latest_us: Callable[[str], int]) -> list[str]:
        """The keys to drop when another one needs room: those silent for longest, by their names where that is equal."""
        # A hundredth at a time, so that a flood of new keys costs a constant number of steps for each.
        count = max(1, self._keys_max // 100, len(keys) - self._keys_max + 1)
        return heapq.nsmallest(count, keys, key=lambda key: (latest_us(key), key))
