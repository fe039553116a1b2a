"""Quantiles of amounts, such as the 95th percentile of a latency, to within a relative error.

The sketch is DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019): amounts are counted in bins whose bounds grow by a constant factor, so that the middle of a bin is
within ``error`` of everything in it.  Merging adds counts up, so any order of merges gives the same sketch.
"""

from __future__ import annotations

import math
from typing import TypeVar

import orjson

from tables.aggregates import Aggregate, finite
from topology.errors import ConfigurationError

Value = TypeVar("Value")

SPAN = 1e17
"""The largest magnitude over the smallest one that is told apart from what is smaller, on either side of zero."""

_NEAREST_ZERO = 1e-300  # what is nearer counts as zero: below it floats lose the digits an error is measured by
_LARGEST_LOG = math.log(1.7976931348623157e308)


class QuantileSketch:
    """How many amounts fell into which bin; bin i holds magnitudes in (f^(i-1), f^i] for the aggregate's factor f."""

    __slots__ = ("above", "below", "least", "most", "zeros")

    def __init__(self) -> None:
        self.above: dict[int, int] = {}
        self.below: dict[int, int] = {}
        self.zeros = 0
        self.least, self.most = math.inf, -math.inf

    @property
    def count(self) -> int:
        """How many amounts."""
        return sum(self.above.values()) + sum(self.below.values()) + self.zeros

    def limit(self, bins_max: int) -> None:
        """Count what lies so many bins or more below the largest magnitude in the lowest bin that stays."""
        for bins in (self.above, self.below):
            lowest = max(bins, default=0) - bins_max + 1
            for number in [number for number in bins if number < lowest]:
                bins[lowest] = bins.get(lowest, 0) + bins.pop(number)

    def __eq__(self, other: object) -> bool:
        """Whether both counted alike."""
        if not isinstance(other, QuantileSketch):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in QuantileSketch.__slots__)

    __hash__ = None  # type: ignore[assignment]  # it changes


class _Sketched(Aggregate[float, QuantileSketch, Value]):
    """What both aggregates share: all but what is read."""

    def __init__(self, error: float) -> None:
        if not 0.0001 <= error < 1:
            msg = (
                f"{type(self).__name__}: found error={error}, expected a part such as 0.01, 0.0001 or more and below 1"
            )
            raise ConfigurationError(msg)
        factor = (1 + error) / (1 - error)
        self._log_factor = math.log(factor)
        self._bins_max = math.ceil(math.log(SPAN) / self._log_factor)
        self._log_middle = math.log(2 / (factor + 1))

    def initial(self) -> QuantileSketch:
        """No amount yet."""
        return QuantileSketch()

    def add(self, accumulated: QuantileSketch, amount: float, at_us: int) -> QuantileSketch:
        """Count a finite amount in its bin."""
        if -_NEAREST_ZERO < finite(amount) < _NEAREST_ZERO:
            accumulated.zeros += 1
        else:
            bins = accumulated.above if amount > 0 else accumulated.below
            number = math.ceil(math.log(abs(amount)) / self._log_factor)
            bins[number] = bins.get(number, 0) + 1
            if len(bins) > self._bins_max:
                accumulated.limit(self._bins_max)
        if amount < accumulated.least:
            accumulated.least = amount
        if amount > accumulated.most:
            accumulated.most = amount
        return accumulated

    def merge(self, left: QuantileSketch, right: QuantileSketch) -> QuantileSketch:
        """The counts of both."""
        both = QuantileSketch()
        both.above, both.below = left.above.copy(), left.below.copy()
        for bins, more in ((both.above, right.above), (both.below, right.below)):
            for number, count in more.items():
                bins[number] = bins.get(number, 0) + count
        both.zeros = left.zeros + right.zeros
        both.least, both.most = min(left.least, right.least), max(left.most, right.most)
        both.limit(self._bins_max)
        return both

    def encode(self, accumulated: QuantileSketch) -> bytes:
        """As JSON: zeros, least, most, and per side the numbers of the bins and their counts."""
        accumulated.limit(self._bins_max)
        sides = []
        for bins in (accumulated.below, accumulated.above):
            numbers = sorted(bins)
            sides += [numbers, [bins[number] for number in numbers]]
        limits = [accumulated.least, accumulated.most] if accumulated.least <= accumulated.most else [None, None]
        return orjson.dumps([accumulated.zeros, *limits, *sides])

    def decode(self, data: bytes) -> QuantileSketch:
        """From JSON."""
        sketch = QuantileSketch()
        sketch.zeros, least, most, below, below_counts, above, above_counts = orjson.loads(data)
        if least is not None:
            sketch.least, sketch.most = least, most
        sketch.below = dict(zip(below, below_counts, strict=True))
        sketch.above = dict(zip(above, above_counts, strict=True))
        return sketch

    def _values_at(self, sketch: QuantileSketch, ranks: tuple[float, ...]) -> tuple[float, ...] | None:
        sketch.limit(self._bins_max)
        count = sketch.count
        if not count:
            return None
        bins = [(-self._middle(number), sketch.below[number]) for number in sorted(sketch.below, reverse=True)]
        if sketch.zeros:
            bins.append((0.0, sketch.zeros))
        bins += [(self._middle(number), sketch.above[number]) for number in sorted(sketch.above)]
        return tuple(self._value_at(sketch, bins, math.floor(rank * (count - 1))) for rank in ranks)

    @staticmethod
    def _value_at(sketch: QuantileSketch, bins: list[tuple[float, int]], before: int) -> float:
        """The amount that has so many amounts before it."""
        if before == 0:
            return sketch.least
        if before == sketch.count - 1:
            return sketch.most
        passed = 0
        for middle, count in bins:
            passed += count
            if passed > before:
                return min(max(middle, sketch.least), sketch.most)
        return sketch.most

    def _middle(self, number: int) -> float:
        return math.exp(min(number * self._log_factor + self._log_middle, _LARGEST_LOG))


class Quantile(_Sketched["float | None"]):
    """The amount below which a part of all amounts lies; None of nothing.

    What is read is within ``error`` of the amount at place ``floor(rank * (n - 1))`` in order, relative to that amount.
    This holds for magnitudes down to 10^-17 of the largest one on their side of zero; what is smaller counts as being as
    large as that.  Smallest and largest are exact.  An entry takes about 100 bytes for each bin in use, however many
    amounts: with an error of 1 %, 115 bins for each power of ten that amounts span, 4,000 at most.

    Args:
        rank: which part, from 0 to 1: 0.5 is the median, 0.95 the 95th percentile.
        error: how far off the value may be, as a part of it.
    """

    def __init__(self, rank: float, *, error: float = 0.01) -> None:
        super().__init__(error)
        self._rank = _part(rank)

    def value(self, accumulated: QuantileSketch, size_us: int) -> float | None:
        """The one quantile."""
        found = self._values_at(accumulated, (self._rank,))
        return None if found is None else found[0]


class Quantiles(_Sketched["tuple[float, ...] | None"]):
    """Several quantiles of one sketch, in the order of the ranks; see ``Quantile``.  None of nothing."""

    def __init__(self, *ranks: float, error: float = 0.01) -> None:
        super().__init__(error)
        if not ranks:
            msg = "Quantiles: found no rank, expected one or more, such as Quantiles(0.5, 0.95)"
            raise ConfigurationError(msg)
        self._ranks = tuple(_part(rank) for rank in ranks)

    def value(self, accumulated: QuantileSketch, size_us: int) -> tuple[float, ...] | None:
        """One quantile per rank."""
        return self._values_at(accumulated, self._ranks)


def _part(rank: float) -> float:
    if not 0 <= rank <= 1:
        msg = f"found a quantile at rank {rank}, expected a part from 0 to 1: the 95th percentile is 0.95"
        raise ConfigurationError(msg)
    return rank
