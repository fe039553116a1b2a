"""What was learned."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from pydantic import Field

from topology.event import Payload
from topology.payloads.healing import ActionRequest
from topology.registry import event_type


@event_type("experience.recorded")
class ExperienceRecorded(Payload):
    """One repair was tried for one problem, and this came of it; one per action."""

    experience: UUID
    incident: UUID
    system: str
    problem: str
    solution: str
    target: str
    environment: str = ""
    request: ActionRequest
    succeeded: bool
    attempt: int
    recovery_s: float | None = None
    """From the end of the action to health; None when it did not help."""
    detail: str = ""


@event_type("pattern.proposed")
class PatternProposed(Payload):
    """A pattern that seems to announce or to be a problem; a candidate until promoted."""

    pattern: str
    system: str
    rule: Mapping[str, object]
    problem: str = ""
    confidence: float = Field(ge=0.0, le=1.0)
    parent: str = ""


@event_type("pattern.promoted")
class PatternPromoted(Payload):
    """A pattern reached the next step of its life: shadow, active or retired."""

    pattern: str
    system: str
    pattern_version: int
    stage: str
    precision: float | None = None


@event_type("solution.revised")
class SolutionRevised(Payload):
    """A solution's success changed enough to matter."""

    solution: str
    system: str
    problem: str
    successes: int = Field(ge=0)
    trials: int = Field(ge=1)
    advice: str = ""
