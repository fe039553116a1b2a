"""What people are told about incidents: the models `PostgresKnowledge` reads for the command and the console."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from topology.event import Payload
from topology.payloads import (
    ActionFinished,
    ActionStarted,
    ApprovalGiven,
    ExperienceRecorded,
    OutcomeVerified,
    PlanProposed,
    ProblemDiagnosed,
    Severity,
    Symptom,
)
from topology.payloads.incidents import Change

IncidentStatus = Literal["open", "resolved"]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IncidentSummary(_Told):
    """One line of a list of incidents.

    Attributes:
        problem: the newest diagnosis's fingerprint; empty before there is one.
        solution: what was verified to help; empty when nothing was.
        attempts: actions taken, undoing ones left out.
    """

    incident: UUID
    system: str
    title: str
    severity: Severity
    status: IncidentStatus
    opened_at: datetime
    resolved_at: datetime | None
    problem: str
    solution: str
    attempts: int


class IncidentNow(_Told):
    """An incident as its newest event tells it."""

    incident: UUID
    system: str
    title: str
    severity: Severity
    status: IncidentStatus
    opened_at: datetime
    resolved_at: datetime | None
    symptoms: tuple[Symptom, ...]
    changes: tuple[Change, ...]
    why: str


class Moment(_Told):
    """Something that was said about an incident, and when it happened."""

    at: datetime
    said: (
        ProblemDiagnosed
        | PlanProposed
        | ApprovalGiven
        | ActionStarted
        | ActionFinished
        | OutcomeVerified
        | ExperienceRecorded
    )


class IncidentStory(_Told):
    """All that is known of one incident; `moments` in the order in which they happened."""

    incident: IncidentNow
    moments: tuple[Moment, ...]

    @property
    def diagnoses(self) -> tuple[ProblemDiagnosed, ...]:
        """First to last."""
        return tuple(m.said for m in self.moments if isinstance(m.said, ProblemDiagnosed))

    @property
    def plans(self) -> tuple[PlanProposed, ...]:
        """First to last, undoing ones included."""
        return tuple(m.said for m in self.moments if isinstance(m.said, PlanProposed))

    @property
    def actions(self) -> tuple[ActionStarted | ActionFinished, ...]:
        """Begins and ends of actions, first to last."""
        return tuple(m.said for m in self.moments if isinstance(m.said, ActionStarted | ActionFinished))

    @property
    def outcomes(self) -> tuple[OutcomeVerified, ...]:
        """First to last."""
        return tuple(m.said for m in self.moments if isinstance(m.said, OutcomeVerified))

    @property
    def experiences(self) -> tuple[ExperienceRecorded, ...]:
        """First to last."""
        return tuple(m.said for m in self.moments if isinstance(m.said, ExperienceRecorded))


class KnowledgeCounts(_Told):
    """How much is known."""

    incidents: int
    incidents_open: int
    problems: int
    solutions: int
    patterns: int
    experiences: int
    relations: int


# What happens first is told first when the times are equal.
STORY_ORDER: tuple[type[Payload], ...] = (
    ProblemDiagnosed,
    PlanProposed,
    ApprovalGiven,
    ActionStarted,
    ActionFinished,
    OutcomeVerified,
    ExperienceRecorded,
)
