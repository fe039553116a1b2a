"""What the chapters of the tour share: a topology out of a few lines of YAML, and signals to put on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from topology import Agent, Event
from topology.graph import Topology
from topology.ids import derived_id
from topology.parse import parse
from topology.payloads import LogWritten
from topology.resolve import resolve

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def declared(yaml: str, *agents: type[Agent[Any, Any]]) -> Topology:
    """The topology a text declares; its agents are named ``here:Class`` and given beside it."""
    known = {f"here:{agent.__name__}": agent for agent in agents}
    return resolve(parse(yaml), lambda name: known[name])


def said(message: str, *, service: str = "shop", seconds: float = 0.0) -> Event[LogWritten]:
    """A log line, so many seconds after noon; the same line at the same time is the same event."""
    return Event(
        id=derived_id("line", service, message, str(seconds)),
        timestamp=NOON + timedelta(seconds=seconds),
        source="tour",
        payload=LogWritten(service=service, system=service, message=message),
    )
