"""How event time is cut into windows: configuration only, no running state.

Spans are aligned to the epoch, never to the first event, so that a replay that starts elsewhere cuts at the same
instants.  Every window is a whole number of *panes*, equal spans that touch and do not overlap; a table remembers one
accumulator per pane (``tables.panes``).  That is what lets one event cost the same in a tumbling, a hopping and a
sliding window.  A ``Session`` is cut by the entries themselves, so it has no panes and is no ``Window``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from topology.errors import ConfigurationError
from topology.moments import span_us

# A sliding window of n panes costs n accumulators per key, and ages out in steps of 1/n of its size.
_SLIDING_PANES_MAX = 60


class Span(NamedTuple):
    """The instants from ``start_us`` up to, not including, ``end_us``."""

    start_us: int
    end_us: int

    def covers(self, at_us: int) -> bool:
        """Whether an instant lies in the span."""
        return self.start_us <= at_us < self.end_us


@dataclass(frozen=True, slots=True)
class Window:
    """What every kind of window tells a table; use one of the subclasses."""

    size: timedelta

    def __post_init__(self) -> None:
        """Refuse a window that covers nothing."""
        _positive(self, "size", self.size)

    @property
    def size_us(self) -> int:
        """How much event time one window covers, in microseconds."""
        return span_us(self.size)

    @property
    def pane_us(self) -> int:
        """The width of a pane in microseconds; divides ``size_us``."""
        return self.size_us

    @property
    def closes(self) -> bool:
        """Whether windows of this kind end and are reported; a sliding window never does, it only moves on."""
        return True

    def spans_of(self, at_us: int) -> tuple[Span, ...]:
        """The windows an instant belongs to, the one that ends first in front."""
        size_us, pane_us = self.size_us, self.pane_us
        first_end = at_us - at_us % pane_us + pane_us
        return tuple(Span(end - size_us, end) for end in range(first_end, first_end + size_us, pane_us))


@dataclass(frozen=True, slots=True)
class Tumbling(Window):
    """Cut event time into equal spans that touch and do not overlap.

    Example:
        >>> Tumbling(minutes(1)).spans_of(90_000_000)
        (Span(start_us=60000000, end_us=120000000),)
    """


@dataclass(frozen=True, slots=True)
class Hopping(Window):
    """Spans of ``size`` of which one starts every ``step``, so that each instant lies in ``size / step`` of them.

    ``step`` must divide ``size``; otherwise some instants would count more often than others.
    """

    step: timedelta

    def __post_init__(self) -> None:
        """Refuse steps that do not divide the size."""
        _positive(self, "size", self.size)
        _positive(self, "step", self.step)
        _divides(self, "step", self.step)

    @property
    def pane_us(self) -> int:
        """The step, in microseconds."""
        return span_us(self.step)


@dataclass(frozen=True, slots=True)
class Sliding(Window):
    """What happened in the last ``size``, seen from any instant.

    The window of instant t holds every entry in (t - size, t], by panes of ``resolution``: the pane t lies in and the
    ones before it, ``size / resolution`` in all.  So an entry ages out up to one ``resolution`` before it is ``size``
    old, and memory per key is bounded by the number of panes, however many entries come.  A resolution of one
    microsecond is exact, and as expensive as it sounds.

    Attributes:
        resolution: width of a pane; must divide ``size``.  By default ``size / 60``, or the next coarser width that
            divides it.
    """

    resolution: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse a resolution that does not divide the size."""
        _positive(self, "size", self.size)
        if self.resolution is not None:
            _positive(self, "resolution", self.resolution)
            _divides(self, "resolution", self.resolution)

    @property
    def pane_us(self) -> int:
        """The resolution, in microseconds."""
        if self.resolution is not None:
            return span_us(self.resolution)
        size_us = self.size_us
        panes = next(panes for panes in range(_SLIDING_PANES_MAX, 0, -1) if size_us % panes == 0)
        return size_us // panes

    @property
    def closes(self) -> bool:
        """Never: there is a window for every instant."""
        return False

    def spans_of(self, at_us: int) -> tuple[Span, ...]:
        """The one window that is seen from this instant."""
        pane_us = self.pane_us
        end_us = at_us - at_us % pane_us + pane_us
        return (Span(end_us - self.size_us, end_us),)


@dataclass(frozen=True, slots=True)
class Session:
    """Entries of one key that follow each other closely: what happens until nothing happened for ``gap``.

    An entry at t makes a session [t, t + gap); sessions of a key that overlap are one.  So silence of exactly ``gap``
    ends a session, and the end of a span belongs to the next one, as with all windows.
    """

    gap: timedelta

    def __post_init__(self) -> None:
        """Refuse a gap that is none."""
        _positive(self, "gap", self.gap)

    @property
    def gap_us(self) -> int:
        """The gap, in microseconds."""
        return span_us(self.gap)


def seconds(count: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)


def hours(count: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=count)


def _positive(window: Window | Session, name: str, duration: timedelta) -> None:
    if duration <= timedelta(0):
        msg = f"{type(window).__name__}: found {name}={duration}, expected a duration longer than nothing"
        raise ConfigurationError(msg)


def _divides(window: Window, name: str, part: timedelta) -> None:
    rest = window.size % part
    if rest:
        kind = type(window).__name__
        msg = (
            f"{kind}: {name}={part} does not divide size={window.size} (a rest of {rest} remains); "
            f"choose a {name} that fits a whole number of times"
        )
        raise ConfigurationError(msg)
