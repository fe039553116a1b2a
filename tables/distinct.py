"""How many different things there were, in bounded memory.

Up to ``EXACT_MAX`` the 64-bit hashes themselves are kept, so the count is exact; beyond it a HyperLogLog (Flajolet and
others, 2007) is, read with Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017),
which needs no tables of corrections.  The form depends on the set of things alone, so any order of additions and merges
gives the same sketch.
"""

from __future__ import annotations

import math
import zlib
from array import array
from bisect import bisect_left
from hashlib import blake2b
from typing import Any

import orjson

from tables.aggregates import Aggregate
from topology.errors import PoisonedEventError

EXACT_MAX = 256
"""Up to so many different things are counted exactly."""

_HASH_BITS = 64
_INDEX_BITS = 12
_REGISTERS = 1 << _INDEX_BITS
_RANK_BITS = _HASH_BITS - _INDEX_BITS
_RANK_MAX = _RANK_BITS + 1


class DistinctSketch:
    """The hashes of what was seen, in order, while they are few; then, per register, the rarest pattern of bits seen."""

    __slots__ = ("_estimate", "hashes", "registers")

    def __init__(self) -> None:
        self.hashes: array[int] = array("Q")
        self.registers: bytearray | None = None
        self._estimate: int | None = None

    def add(self, hashed: int) -> None:
        """Take note of a hash."""
        if self.registers is not None:
            self._register(self.registers, hashed)
            return
        place = bisect_left(self.hashes, hashed)
        if place < len(self.hashes) and self.hashes[place] == hashed:
            return
        self.hashes.insert(place, hashed)
        if len(self.hashes) > EXACT_MAX:
            self.registers = bytearray(_REGISTERS)
            for known in self.hashes:
                self._register(self.registers, known)
            self.hashes = array("Q")

    def absorb(self, other: DistinctSketch) -> None:
        """Take note of all that another sketch has seen."""
        if other.registers is None:
            for hashed in other.hashes:
                self.add(hashed)
            return
        mine = self.registers
        if mine is None:
            mine = self.registers = bytearray(_REGISTERS)
            for hashed in self.hashes:
                self._register(mine, hashed)
            self.hashes = array("Q")
        self.registers = bytearray(map(max, mine, other.registers))
        self._estimate = None

    def estimate(self) -> int:
        """How many different hashes there were."""
        if self.registers is None:
            return len(self.hashes)
        if self._estimate is None:
            self._estimate = max(EXACT_MAX + 1, round(_estimate_of(self.registers)))
        return self._estimate

    def _register(self, registers: bytearray, hashed: int) -> None:
        index, rest = hashed >> _RANK_BITS, hashed & ((1 << _RANK_BITS) - 1)
        rank = _RANK_MAX - rest.bit_length()
        if rank > registers[index]:
            registers[index] = rank
            self._estimate = None

    def __eq__(self, other: object) -> bool:
        """Whether both have seen the same."""
        if not isinstance(other, DistinctSketch):
            return NotImplemented
        return (self.hashes, self.registers) == (other.hashes, other.registers)

    __hash__ = None  # type: ignore[assignment]  # it changes


class Distinct(Aggregate[Any, DistinctSketch, int]):
    """How many different amounts there were; amounts are anything that JSON can say, usually text.

    Exact up to 256.  Beyond, the standard error is 1.04 / sqrt(4096) = 1.6 %: two of three counts are within it, and 997
    of 1,000 within 4.9 %.  An entry takes 8 bytes for each different amount up to 256, then 4 kB.
    """

    def initial(self) -> DistinctSketch:
        """Nothing seen yet."""
        return DistinctSketch()

    def add(self, accumulated: DistinctSketch, amount: Any, at_us: int) -> DistinctSketch:
        """Take note of an amount."""
        try:
            said = orjson.dumps(amount, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            msg = f"found an amount of {amount!r}, expected something that JSON can say, such as text: {error}"
            raise PoisonedEventError(msg) from error
        accumulated.add(int.from_bytes(blake2b(said, digest_size=_HASH_BITS // 8).digest(), "big"))
        return accumulated

    def merge(self, left: DistinctSketch, right: DistinctSketch) -> DistinctSketch:
        """What either has seen."""
        both = DistinctSketch()
        both.absorb(left)
        both.absorb(right)
        return both

    def value(self, accumulated: DistinctSketch, size_us: int) -> int:
        """The count, or an estimate of it."""
        return accumulated.estimate()

    def encode(self, accumulated: DistinctSketch) -> bytes:
        """The hashes as JSON; the registers compressed."""
        if accumulated.registers is None:
            return orjson.dumps(accumulated.hashes.tolist())
        return b"z" + zlib.compress(accumulated.registers)

    def decode(self, data: bytes) -> DistinctSketch:
        """From either form."""
        sketch = DistinctSketch()
        if data.startswith(b"z"):
            sketch.registers = bytearray(zlib.decompress(data[1:]))
        else:
            sketch.hashes = array("Q", orjson.loads(data))
        return sketch


def _estimate_of(registers: bytearray) -> float:
    """Ertl's improved raw estimator (algorithm 6 of his paper)."""
    counts = [0] * (_RANK_MAX + 1)
    for rank in registers:
        counts[rank] += 1
    total = _REGISTERS * _tau(1 - counts[_RANK_MAX] / _REGISTERS)
    for count in reversed(counts[1:_RANK_MAX]):
        total = 0.5 * (total + count)
    total += _REGISTERS * _sigma(counts[0] / _REGISTERS)
    return _REGISTERS * _REGISTERS / (2 * math.log(2) * total)


def _sigma(part: float) -> float:
    """What registers that saw nothing tell, ``part`` of all; x + the sum of x^(2^k) 2^(k-1)."""
    if part == 1:
        return math.inf
    found, weight, before = part, 1.0, -1.0
    while found != before:
        part *= part
        before = found
        found += part * weight
        weight += weight
    return found


def _tau(part: float) -> float:
    """What registers that are full tell, ``part`` of all being not full."""
    if part in (0.0, 1.0):
        return 0.0
    found, weight, before = 1 - part, 1.0, -1.0
    while found != before:
        part = math.sqrt(part)
        before = found
        weight *= 0.5
        found -= (1 - part) ** 2 * weight
    return found / 3
