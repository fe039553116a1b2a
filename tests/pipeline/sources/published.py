"""What a source published: stands where the mesh stands, with its one promise that an id is taken once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from topology.errors import RetryableError
from topology.event import Event, Payload

P = TypeVar("P", bound=Payload)


class Published:
    """A ``Publish`` that keeps events in memory, in order, each id once.

    Attributes:
        away: while true, nothing is taken and ``RetryableError`` raised.
        calls: how often it was asked to take something.
    """

    def __init__(self) -> None:
        self.events: list[Event[Payload]] = []
        self.away = False
        self.calls = 0
        self._ids: set[UUID] = set()

    async def __call__(self, events: Sequence[Event[Payload]]) -> int:
        self.calls += 1
        if self.away:
            msg = "the mesh is away"
            raise RetryableError(msg)
        new = [event for event in {event.id: event for event in events}.values() if event.id not in self._ids]
        self._ids.update(event.id for event in new)
        self.events.extend(new)
        return len(new)

    def payloads(self, kind: type[P]) -> list[P]:
        """The payloads of one type, in the order they came."""
        return [event.payload for event in self.events if isinstance(event.payload, kind)]
