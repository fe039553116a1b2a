"""Hand changes on to where incidents are put together."""

from __future__ import annotations

from collections.abc import Iterable

from topology.agent import Agent, World
from topology.event import Event
from topology.payloads.signals import ChangeApplied


class ChangeWatcher(Agent[ChangeApplied, ChangeApplied]):
    """Puts changes onto the findings, keyed by system: a change is no symptom, but the best explanation of one.

    Remembers: nothing.
    """

    def process(self, event: Event[ChangeApplied], world: World) -> Iterable[ChangeApplied]:
        """One change in, the same change out."""
        del world
        yield event.payload
