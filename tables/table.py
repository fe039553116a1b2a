"""Tables as an agent declares them: what is counted, by which key, over which window."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from tables.aggregates import Aggregate, made
from tables.bound import BoundTable
from tables.early import EarlyResults
from tables.panes import PanedTable
from tables.sessions import SessionTable
from tables.totals import TotalsTable
from tables.tumbling import TumblingTable
from tables.windowed import WindowedTable
from tables.windows import Session, Sliding, Tumbling, Window
from topology.errors import ConfigurationError
from topology.moments import span_us

Amount = TypeVar("Amount")
Value = TypeVar("Value")

# An entry of a count takes at most 300 bytes with its key (tests/benchmarks), so this many keys stay below 30 MB per
# partition.
KEYS_MAX = 100_000


class Table(Generic[Amount, Value]):
    """Declare a table as a class attribute of an agent; the instance answers its running state.

    Args:
        name: unique within the agent; names the rows for ever, so a rename starts from nothing.
        key: the field of the payload to tell entries apart by, as a dotted path.
        window: the window of event time, or the session; without one, a key's entries are taken together from the
            first on.
        value: what is computed: an aggregate, or its class.
        lateness: how much longer than the stage's own allowed lateness a window waits before it closes.
        retain: with a tumbling window: how long a closed window can still be read.  Without a window: how long a key
            is kept after its latest entry, for ever by default.
        keys_max: how many keys a partition may hold; beyond it the ones whose latest entry is oldest are dropped, in
            portions of a hundredth, and counted in ``evicted``.
        early: with tumbling or hopping windows: also give results of windows with new entries before they close,
            whenever the watermark passes a multiple of this duration, or with every so-many-th entry.  Each replaces
            the one before it (``ClosedWindow.final`` and ``revision``); ``window_closed`` gets them all.  Costs a row
            per window and key, and with hopping windows a step per entry and window.

    Raises:
        ConfigurationError: the arguments do not fit together.

    Example:
        >>> from tables.aggregates import Count
        >>> from tables.windows import Sliding, minutes
        >>> class RestartLoops:
        ...     restarts = Table("restarts", key="service", window=Sliding(minutes(10)), value=Count)
        ...     def __init__(self):
        ...         self._tables = {"restarts": type(self).restarts.bind()}
        >>> loops = RestartLoops()
        >>> loops.restarts.add("ledger", at_us=0), loops.restarts.add("ledger", at_us=60_000_000)
        (1, 2)
    """

    def __init__(
        self,
        name: str,
        *,
        value: Aggregate[Amount, Any, Value] | type[Aggregate[Amount, Any, Value]],
        key: str = "service",
        window: Window | Session | None = None,
        lateness: timedelta = timedelta(0),
        retain: timedelta | None = None,
        keys_max: int = KEYS_MAX,
        early: timedelta | int | None = None,
    ) -> None:
        refuse_limit_below_one(name, keys_max)
        self.name = name
        self.key = key
        self.window = window
        self.aggregate: Aggregate[Amount, Any, Value] = made(value)
        self.lateness = lateness
        self.retain = retain
        self.keys_max = keys_max
        self.early = early
        self._refuse_what_does_not_fit()

    def bind(self) -> WindowedTable[Amount, Value] | TotalsTable[Amount, Value]:
        """A new, empty running state."""
        name, key, aggregate, keys_max = self.name, self.key, self.aggregate, self.keys_max
        lateness_us = span_us(self.lateness)
        retain_us = None if self.retain is None else span_us(self.retain)
        early = None if self.early is None else EarlyResults(self.early)
        match self.window:
            case None:
                return TotalsTable(name, key, aggregate, keys_max, retain_us=retain_us)
            case Session():
                return SessionTable(name, key, aggregate, keys_max, gap_us=self.window.gap_us, lateness_us=lateness_us)
            case Tumbling():
                return TumblingTable(
                    name,
                    key,
                    aggregate,
                    keys_max,
                    window=self.window,
                    lateness_us=lateness_us,
                    retain_us=retain_us or 0,
                    early=early,
                )
            case _:
                return PanedTable(
                    name, key, aggregate, keys_max, window=self.window, lateness_us=lateness_us, early=early
                )

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Table[Amount, Value]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundTable[Amount, Value]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Table[Amount, Value] | BoundTable[Amount, Value]:
        """The declaration on the class, the running state on an instance."""
        if instance is None:
            return self
        found: BoundTable[Amount, Value] = bound_state_of(instance, self.name)
        return found

    def _refuse_what_does_not_fit(self) -> None:
        found = ""
        if self.lateness < timedelta(0):
            found = f"a lateness of {self.lateness}; expected zero or more"
        elif self.retain is not None and self.retain < timedelta(0):
            found = f"a retention of {self.retain}; expected zero or more"
        elif self.window is None and self.lateness:
            found = "a lateness but no window; without a window nothing is late, leave it out"
        elif self.window is None and self.aggregate.needs_window:
            found = f"{type(self.aggregate).__name__} but no window; say over which window"
        elif self.retain is not None and not isinstance(self.window, Tumbling | None):
            found = "retain with windows that overlap or depend on the data; make the window longer instead"
        elif self.early is not None:
            found = self._early_that_does_not_fit(self.early)
        if found:
            msg = f"table {self.name!r} has {found}"
            raise ConfigurationError(msg)

    def _early_that_does_not_fit(self, early: timedelta | int) -> str:
        if isinstance(self.window, Session):
            return "early results of sessions, which may still become one; a result could not tell which it replaces"
        if self.window is None or isinstance(self.window, Sliding):
            return "early results but no windows that close; what add() answers is always up to date"
        if (early <= timedelta(0)) if isinstance(early, timedelta) else early < 1:
            return f"early={early}; expected a duration longer than nothing, or a number of entries from 1 on"
        return ""


def bound_state_of(instance: object, name: str) -> Any:
    """The running state an engine bound to an agent, under the name it was declared with."""
    try:
        return vars(instance)["_tables"][name]
    except KeyError:
        kind = type(instance).__name__
        msg = f"{kind} has no running state for {name!r}; let Agent.__init__ run first (super().__init__(config))"
        raise ConfigurationError(msg) from None


def refuse_limit_below_one(name: str, keys_max: int) -> None:
    """Refuse a table that could not hold a single key."""
    if keys_max < 1:
        msg = f"table {name!r} has keys_max={keys_max}, expected 1 or more"
        raise ConfigurationError(msg)
