"""How agents ask each other (contract net: announce, bid, award)."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from topology.event import Payload
from topology.payloads.diagnoses import Candidate
from topology.registry import event_type


@event_type("help.requested")
class HelpRequested(Payload):
    """A stage is stuck with a problem and asks who can do something."""

    request: UUID
    incident: UUID
    system: str
    problem: str
    description: str
    tried: tuple[str, ...] = ()
    """Solutions that were rejected already."""


@event_type("help.offered")
class HelpOffered(Payload):
    """A bid: what the bidder would do, and how sure it is."""

    request: UUID
    incident: UUID
    system: str
    bidder: str
    candidate: Candidate
    confidence: float = Field(ge=0.0, le=1.0)
