"""How an engine sees what a stage remembers, without knowing windows or tables.

An agent declares state as class attributes (``tables.Table``, ``tables.Keyed``); the engine binds one running state per
stage and partition, restores it, and stores its changes together with the offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """The result of a window: final when the watermark has passed its end; an early one where the table gives such.

    Results of one window are told apart by ``revision``; each takes back what the ones before it said.  What an agent
    concludes from an early one is an event of its own, with an id and the time of what made the result due; a final one
    bears the window's end.  Where there were early ones, ``metadata["window"]`` of the events says table, key, start, end,
    revision and final, so that whoever keeps them knows what to replace.

    Attributes:
        final: whether no later result of this window follows.
        revision: how many earlier results of this window this one replaces.
    """

    table: str
    key: str
    start_us: int
    end_us: int
    value: Any
    final: bool = True
    revision: int = 0


@dataclass(frozen=True, slots=True)
class LateEntry:
    """An entry that came after its window was closed; it goes to the late output."""

    table: str
    key: str
    at_us: int


class BoundState(Protocol):
    """The running state of one table in one partition."""

    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None:
        """Take over the rows of a snapshot or a folded changelog; before anything else is done.

        They may come in parts, in any order, and a row may come again.

        Args:
            last: whether no more parts follow.
        """

    def changes(self) -> dict[str, bytes | None]:
        """Rows touched since the last call, encoded; None means deleted."""

    def snapshot(self) -> dict[str, bytes]:
        """Every row, encoded."""

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        """Close what ended at or before the watermark, in order of (end, key); then give the early results due."""

    @property
    def late(self) -> Sequence[LateEntry]:
        """What came too late since the last :meth:`take_late`; looked at after every event."""

    def take_late(self) -> list[LateEntry]:
        """What came too late since the last call."""


@runtime_checkable
class BoundedState(Protocol):
    """Running state that drops keys to stay within its bounds, and counts them."""

    @property
    def evicted(self) -> Mapping[str, int]:
        """How many were dropped since the start, by the bound that made them go."""


@runtime_checkable
class EagerState(Protocol):
    """Running state that may have results to give although its watermark has not moved."""

    @property
    def eager(self) -> bool:
        """Whether it may: call ``advance`` after every entry, not only when the watermark has moved."""


@runtime_checkable
class StateDeclaration(Protocol):
    """A class attribute of an agent that wants state."""

    @property
    def name(self) -> str:
        """Unique within the agent; names the rows for ever."""

    def bind(self) -> BoundState:
        """A new, empty running state."""
