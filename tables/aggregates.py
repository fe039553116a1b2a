"""What a table computes over the entries of a window: count, sum, min, max, mean, rate, last, or a fold of your own.

Quantiles, distinct counts and the most frequent are sketches, each in a module of its own (``tables.quantiles``,
``tables.distinct``, ``tables.frequent``).

An aggregate is configuration without state; the state is the accumulator it is handed and gives back.  Accumulators of
neighbouring panes are merged, never subtracted, so that minima, sketches and distinct counts fit the same shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import orjson

from topology.errors import ConfigurationError, PoisonedEventError
from topology.moments import SECOND_US

Amount = TypeVar("Amount")
Accumulated = TypeVar("Accumulated")
Value = TypeVar("Value")


class Aggregate(ABC, Generic[Amount, Accumulated, Value]):
    """How entries become one value.

    Laws, on which tables rely: ``merge`` is associative with ``initial()`` as its neutral element; adding to a merge
    equals merging an addition; ``decode(encode(a)) == a``.  One that computes approximately may keep the first two up to
    its documented error, but always gives the same for the same calls.

    Attributes:
        unit_amount: what an entry amounts to when the caller does not say; None when the caller must say.
        needs_window: whether the value only makes sense over a window.
    """

    unit_amount: Any = None
    needs_window: ClassVar[bool] = False

    @abstractmethod
    def initial(self) -> Accumulated:
        """The accumulator of no entries."""

    @abstractmethod
    def add(self, accumulated: Accumulated, amount: Amount, at_us: int) -> Accumulated:
        """The accumulator with one entry more; may change and return the one it was given."""

    @abstractmethod
    def merge(self, left: Accumulated, right: Accumulated) -> Accumulated:
        """Both together, ``left`` being of earlier panes; leaves its arguments as they were."""

    @abstractmethod
    def value(self, accumulated: Accumulated, size_us: int) -> Value:
        """What is read from the table; ``size_us`` is the length of the window, 0 without one."""

    @abstractmethod
    def encode(self, accumulated: Accumulated) -> bytes:
        """The accumulator as a short, readable row."""

    @abstractmethod
    def decode(self, data: bytes) -> Accumulated:
        """The accumulator of a row."""


class Count(Aggregate[int, int, int]):
    """How many; an entry may stand for several."""

    unit_amount = 1

    def initial(self) -> int:
        """None yet."""
        return 0

    def add(self, accumulated: int, amount: int, at_us: int) -> int:
        """Count on."""
        return accumulated + amount

    def merge(self, left: int, right: int) -> int:
        """The sum of both counts."""
        return left + right

    def value(self, accumulated: int, size_us: int) -> int:
        """The count."""
        return accumulated

    def encode(self, accumulated: int) -> bytes:
        """In decimal."""
        return b"%d" % accumulated

    def decode(self, data: bytes) -> int:
        """From decimal."""
        return int(data)


class Sum(Aggregate[float, float, float]):
    """The amounts added up; exact for whole numbers, to rounding for others."""

    def initial(self) -> float:
        """Nothing."""
        return 0

    def add(self, accumulated: float, amount: float, at_us: int) -> float:
        """Add a finite amount."""
        return accumulated + finite(amount)

    def merge(self, left: float, right: float) -> float:
        """The sum of both."""
        return left + right

    def value(self, accumulated: float, size_us: int) -> float:
        """The sum; 0 of nothing."""
        return accumulated

    def encode(self, accumulated: float) -> bytes:
        """As Python writes the number, which reads back as the same one."""
        return repr(accumulated).encode()

    def decode(self, data: bytes) -> float:
        """From text."""
        return _number(data)


class Rate(Sum):
    """The amounts per second of the window, also while the window is still young."""

    unit_amount = 1
    needs_window = True

    def value(self, accumulated: float, size_us: int) -> float:
        """Per second."""
        return accumulated * SECOND_US / size_us


class _Extreme(Aggregate[float, float | None, float | None]):
    """The one amount that wins over all others."""

    @staticmethod
    @abstractmethod
    def _better(left: float, right: float) -> float: ...

    def initial(self) -> float | None:
        """No amount yet."""
        return None

    def add(self, accumulated: float | None, amount: float, at_us: int) -> float | None:
        """Let a finite amount compete."""
        return finite(amount) if accumulated is None else self._better(accumulated, finite(amount))

    def merge(self, left: float | None, right: float | None) -> float | None:
        """The better of both."""
        if left is None or right is None:
            return right if left is None else left
        return self._better(left, right)

    def value(self, accumulated: float | None, size_us: int) -> float | None:
        """The winner; None when nothing came."""
        return accumulated

    def encode(self, accumulated: float | None) -> bytes:
        """As Python writes the number; empty for none."""
        return b"" if accumulated is None else repr(accumulated).encode()

    def decode(self, data: bytes) -> float | None:
        """From text."""
        return _number(data) if data else None


class Min(_Extreme):
    """The smallest amount."""

    @staticmethod
    def _better(left: float, right: float) -> float:
        return min(left, right)


class Max(_Extreme):
    """The largest amount."""

    @staticmethod
    def _better(left: float, right: float) -> float:
        return max(left, right)


class Mean(Aggregate[float, tuple[int, float], float | None]):
    """The average of the amounts; None of nothing."""

    def initial(self) -> tuple[int, float]:
        """No amount yet."""
        return (0, 0)

    def add(self, accumulated: tuple[int, float], amount: float, at_us: int) -> tuple[int, float]:
        """Count and add a finite amount."""
        return (accumulated[0] + 1, accumulated[1] + finite(amount))

    def merge(self, left: tuple[int, float], right: tuple[int, float]) -> tuple[int, float]:
        """Counts and sums of both."""
        return (left[0] + right[0], left[1] + right[1])

    def value(self, accumulated: tuple[int, float], size_us: int) -> float | None:
        """Sum over count."""
        count, total = accumulated
        return total / count if count else None

    def encode(self, accumulated: tuple[int, float]) -> bytes:
        """Count and sum, with a blank between."""
        return f"{accumulated[0]} {accumulated[1]!r}".encode()

    def decode(self, data: bytes) -> tuple[int, float]:
        """From text."""
        count, total = data.split(b" ")
        return (int(count), _number(total))


class Last(Aggregate[Any, "tuple[int, Any] | None", Any]):
    """The amount that happened last, whatever came last; of two at one instant, the one that came later.

    Amounts are anything that JSON can say; None when nothing came.
    """

    def initial(self) -> tuple[int, Any] | None:
        """Nothing yet."""
        return None

    def add(self, accumulated: tuple[int, Any] | None, amount: Any, at_us: int) -> tuple[int, Any] | None:
        """Keep the later of both."""
        return (at_us, amount) if accumulated is None or at_us >= accumulated[0] else accumulated

    def merge(self, left: tuple[int, Any] | None, right: tuple[int, Any] | None) -> tuple[int, Any] | None:
        """The later of both."""
        if left is None or right is None:
            return right if left is None else left
        return right if right[0] >= left[0] else left

    def value(self, accumulated: tuple[int, Any] | None, size_us: int) -> Any:
        """The amount, without its time."""
        return None if accumulated is None else accumulated[1]

    def encode(self, accumulated: tuple[int, Any] | None) -> bytes:
        """Time and amount as a JSON list."""
        return orjson.dumps(accumulated)

    def decode(self, data: bytes) -> tuple[int, Any] | None:
        """From JSON."""
        pair = orjson.loads(data)
        return None if pair is None else (pair[0], pair[1])


class Fold(Aggregate[Amount, Accumulated, Accumulated]):
    """A computation of your own; the accumulator is the value.

    Args:
        initial: makes the accumulator of nothing.
        add: accumulator and amount to accumulator.
        merge: accumulators of an earlier and a later span to one; must leave both as they were.
        encode, decode: to and from bytes; JSON unless given, so an accumulator of tuples or sets needs its own.
    """

    def __init__(
        self,
        initial: Callable[[], Accumulated],
        add: Callable[[Accumulated, Amount], Accumulated],
        merge: Callable[[Accumulated, Accumulated], Accumulated],
        *,
        encode: Callable[[Accumulated], bytes] = orjson.dumps,
        decode: Callable[[bytes], Accumulated] = orjson.loads,
    ) -> None:
        self._initial, self._add, self._merge = initial, add, merge
        self._encode, self._decode = encode, decode

    def initial(self) -> Accumulated:
        """What the function given for it makes."""
        return self._initial()

    def add(self, accumulated: Accumulated, amount: Amount, at_us: int) -> Accumulated:
        """What the function given for it makes."""
        return self._add(accumulated, amount)

    def merge(self, left: Accumulated, right: Accumulated) -> Accumulated:
        """What the function given for it makes."""
        return self._merge(left, right)

    def value(self, accumulated: Accumulated, size_us: int) -> Accumulated:
        """The accumulator itself; treat it as read-only."""
        return accumulated

    def encode(self, accumulated: Accumulated) -> bytes:
        """What the function given for it makes."""
        return self._encode(accumulated)

    def decode(self, data: bytes) -> Accumulated:
        """What the function given for it makes."""
        return self._decode(data)


def made(aggregate: object) -> Aggregate[Any, Any, Any]:
    """The aggregate itself, also when only its class was named.

    Raises:
        ConfigurationError: it is neither an aggregate nor the class of one.
    """
    found = aggregate() if isinstance(aggregate, type) else aggregate
    if not isinstance(found, Aggregate):
        msg = f"found {found!r} as the value of a table, expected an aggregate such as Count or Mean()"
        raise ConfigurationError(msg)
    return found


def finite(amount: float) -> float:
    """The amount itself, refused when it is no finite number.

    Raises:
        PoisonedEventError: it is infinite or not a number.
    """
    # One NaN would poison its window for good, and an infinity cannot be written as JSON later on.
    if not math.isfinite(amount):
        msg = f"found an amount of {amount}, expected a finite number; leave such samples out before the table"
        raise PoisonedEventError(msg)
    return amount


def _number(data: bytes) -> float:
    try:
        return int(data)
    except ValueError:
        return float(data)
