"""How surprising a value is, given the values of the same series before it."""

from __future__ import annotations

import base64
import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping
from struct import pack, unpack
from typing import Any

from topology.errors import ConfigurationError

SURPRISE_MAX = 20.0
"""Beyond one in 10^20 the digits say nothing more."""

# The part of the history that counts as its tail, at each end, and the fewest values a tail is estimated from.
_TAIL_SHARE = 0.02
_TAIL_VALUES_MIN = 8
# A tail is never taken to be thinner than this part of the range, and of the magnitude: rounding is not a surprise.
_SCALE_OF_RANGE = 1e-3
_SCALE_OF_MAGNITUDE = 1e-9
_MEDIAN_OF_EXPONENTIAL = math.log(2)


class Surprise:
    """Score a stream of values, one at a time, each by the ones before it only.

    The score is -log10 of the probability to see something this far out, on either side: 2 is one value in a hundred,
    6 one in a million, 0 nothing special.  Within the history it is the value's rank; beyond it, an exponential tail
    fitted to the outermost 2 %.  Equal values share a rank, so a flat series is not surprising.

    Args:
        history: how many values are remembered; about 100 bytes each.
        warm_up: how many values must be known before anything is scored.
        scale_min: the smallest difference that matters, in the unit of the series.  With 0, the first change of a
            series that was perfectly flat is as surprising as can be.
    """

    def __init__(self, *, history: int = 500, warm_up: int = 30, scale_min: float = 0.0) -> None:
        least = 2 * _TAIL_VALUES_MIN
        if not least <= warm_up <= history:
            msg = (
                f"found history={history} and warm_up={warm_up}, expected {least} <= warm_up <= history: "
                f"each of the two tails is estimated from {_TAIL_VALUES_MIN} values or more"
            )
            raise ConfigurationError(msg)
        if not 0.0 <= scale_min < math.inf:
            msg = f"found scale_min={scale_min}, expected a finite number, zero or more"
            raise ConfigurationError(msg)
        self._warm_up, self._scale_min = warm_up, scale_min
        self._arrived: deque[float] = deque(maxlen=history)
        self._ordered: list[float] = []

    def update(self, value: float) -> float:
        """Score a value, then remember it; what is not a finite number scores 0 and is not remembered."""
        score = self.score(value)
        if math.isfinite(value):
            self._remember(value)
        return score

    def score(self, value: float) -> float:
        """Score a value without remembering it, as one does while an incident is open."""
        ordered = self._ordered
        count = len(ordered)
        if count < self._warm_up or not math.isfinite(value):
            return 0.0
        tail = max(int(count * _TAIL_SHARE), _TAIL_VALUES_MIN)
        low, high = ordered[tail - 1], ordered[count - tail]
        if value > high:
            excesses = [known - high for known in ordered[count - tail :]]
            return self._beyond(value - high, excesses, count)
        if value < low:
            excesses = [low - known for known in reversed(ordered[:tail])]
            return self._beyond(low - value, excesses, count)
        at_least = count - bisect_left(ordered, value)
        at_most = bisect_right(ordered, value)  # not bisect_left: ties would make a flat series all extremes
        return max(0.0, math.log10(count / (min(at_least, at_most) + 1)))

    @property
    def usual(self) -> tuple[float, float] | None:
        """Between which values all but the outermost 2 % lie; None while there is too little history."""
        count = len(self._ordered)
        if count < self._warm_up:
            return None
        tail = max(int(count * _TAIL_SHARE), _TAIL_VALUES_MIN)
        return (self._ordered[tail - 1], self._ordered[count - tail])

    def snapshot(self) -> dict[str, Any]:
        """The state as plain JSON; floats packed, so that nothing is rounded."""
        packed = pack(f"<{len(self._arrived)}d", *self._arrived)
        return {"history": base64.b64encode(packed).decode()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot, with the settings given here."""
        packed = base64.b64decode(state["history"])
        self._arrived.clear()
        self._arrived.extend(unpack(f"<{len(packed) // 8}d", packed))
        self._ordered = sorted(self._arrived)

    def _remember(self, value: float) -> None:
        if len(self._arrived) == self._arrived.maxlen:
            del self._ordered[bisect_left(self._ordered, self._arrived[0])]
        self._arrived.append(value)
        insort(self._ordered, value)

    def _beyond(self, excess: float, excesses: list[float], count: int) -> float:
        """The surprise of lying ``excess`` beyond where a tail begins, whose values lie ``excesses`` beyond it."""
        tail = len(excesses)
        mean = math.fsum(excesses) / tail
        # The median, too, because one outlier in a short tail would hide the next one or invent it.
        by_median = excesses[(tail + 1) // 2] / _MEDIAN_OF_EXPONENTIAL
        magnitude = max(abs(self._ordered[0]), abs(self._ordered[-1]))
        value_range = self._ordered[-1] - self._ordered[0]
        smallest = max(_SCALE_OF_RANGE * value_range + _SCALE_OF_MAGNITUDE * magnitude, self._scale_min, 1e-300)
        scale = max(mean, by_median, smallest)
        return min(SURPRISE_MAX, math.log10(count / tail) + excess / (scale * math.log(10)))
