"""What came most often, in bounded memory.

The summary is that of Misra and Gries ("Finding repeated elements", 1982), merged as Agarwal and others showed
("Mergeable summaries", PODS 2012): a fixed number of counters; when there is none for a new item, all are lowered by one
and those that reach zero are free again.  Every lowering takes as many entries out of the counters as there are counters
and one, so no counter is ever too low by more than ``n / (counters + 1)``, over all merges.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from tables.aggregates import Aggregate
from topology.errors import ConfigurationError, PoisonedEventError

_COUNTERS_PER_PLACE = 10


class Frequent(NamedTuple):
    """An item that came often: at least ``at_least`` times and at most ``at_most`` times."""

    item: str
    at_least: int
    at_most: int


class FrequentSketch:
    """The counters, and by how much each of them may be too low."""

    __slots__ = ("counters", "lowered")

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.lowered = 0

    def lower(self, amount: int) -> None:
        """Lower every counter, and free those that reach zero."""
        self.counters = {item: count - amount for item, count in self.counters.items() if count > amount}
        self.lowered += amount

    def __eq__(self, other: object) -> bool:
        """Whether both counted alike."""
        if not isinstance(other, FrequentSketch):
            return NotImplemented
        return (self.counters, self.lowered) == (other.counters, other.lowered)

    __hash__ = None  # type: ignore[assignment]  # it changes


class Top(Aggregate[str, FrequentSketch, "tuple[Frequent, ...]"]):
    """The items that came most often, the most frequent in front, of equal ones the lesser text.

    Exact while there are no more different items than counters.  Beyond, of n entries: each count lies between
    ``at_least`` and ``at_most``, which are no more than n / (counters + 1) apart, and every item that came more often
    than that has a counter.  The order is that of ``at_least``.  Which rare items keep a counter depends on the order of
    entries, so merges are associative only within these bounds.

    Args:
        places: how many items to answer.
        counters: how many items to count; ten times the places unless given.  Each takes about 150 bytes.
    """

    def __init__(self, places: int, *, counters: int | None = None) -> None:
        self._places = places
        self._counters = places * _COUNTERS_PER_PLACE if counters is None else counters
        if not 1 <= places <= self._counters:
            msg = f"Top: found places={places} and counters={self._counters}, expected 1 <= places <= counters"
            raise ConfigurationError(msg)

    def initial(self) -> FrequentSketch:
        """No items yet."""
        return FrequentSketch()

    def add(self, accumulated: FrequentSketch, amount: object, at_us: int) -> FrequentSketch:
        """Count an item."""
        if not isinstance(amount, str):
            msg = f"found an item {amount!r}, expected text; pass str() of it"
            raise PoisonedEventError(msg)
        counters = accumulated.counters
        if amount in counters:
            counters[amount] += 1
        elif len(counters) < self._counters:
            counters[amount] = 1
        else:
            accumulated.lower(1)
        return accumulated

    def merge(self, left: FrequentSketch, right: FrequentSketch) -> FrequentSketch:
        """Add counters up; when there are too many, lower all by the first one that is too many."""
        both = FrequentSketch()
        both.counters = left.counters.copy()
        for item, count in right.counters.items():
            both.counters[item] = both.counters.get(item, 0) + count
        both.lowered = left.lowered + right.lowered
        if len(both.counters) > self._counters:
            both.lower(sorted(both.counters.values(), reverse=True)[self._counters])
        return both

    def value(self, accumulated: FrequentSketch, size_us: int) -> tuple[Frequent, ...]:
        """The first places."""
        ranked = sorted(accumulated.counters.items(), key=lambda pair: (-pair[1], pair[0]))
        return tuple(Frequent(item, count, count + accumulated.lowered) for item, count in ranked[: self._places])

    def encode(self, accumulated: FrequentSketch) -> bytes:
        """As JSON: by how much counters are too low at most, and the counters."""
        return orjson.dumps([accumulated.lowered, accumulated.counters], option=orjson.OPT_SORT_KEYS)

    def decode(self, data: bytes) -> FrequentSketch:
        """From JSON."""
        sketch = FrequentSketch()
        sketch.lowered, sketch.counters = orjson.loads(data)
        return sketch
