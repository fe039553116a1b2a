"""Events folded into stories: one per incident, as it stands now.  What the console shows and a trial measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from topology.event import Event, Payload
from topology.payloads import (
    ActionFinished,
    ActionStarted,
    ExperienceRecorded,
    IncidentOpened,
    IncidentResolved,
    IncidentUpdated,
    OutcomeVerified,
    PlanProposed,
    ProblemDiagnosed,
)

STREAMS = ("incidents", "diagnoses", "plans", "actions", "outcomes", "lessons")
"""The streams a story is told on."""

KEPT = 200
"""How many stories are kept; the oldest resolved ones are forgotten first."""

AnyIncident = IncidentOpened | IncidentUpdated | IncidentResolved


@dataclass(slots=True)
class Step:
    """One thing tried: the plan, and what became of it."""

    plan: PlanProposed
    planned_at: datetime
    started_at: datetime | None = None
    finished: ActionFinished | None = None
    finished_at: datetime | None = None
    outcome: OutcomeVerified | None = None
    outcome_at: datetime | None = None
    experience: ExperienceRecorded | None = None


@dataclass(slots=True)
class Story:
    """One incident from the first finding to the lesson.

    Times are when the mesh got to know of it, not those of the events: what a timer concludes carries the timer's time,
    and people want to know how long they waited.
    """

    incident: UUID
    system: str
    now: AnyIncident
    heard_at: datetime
    resolved_at: datetime | None = None
    diagnosis: ProblemDiagnosed | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def repairs(self) -> list[Step]:
        """What was tried, without the taking back of it."""
        return [step for step in self.steps if step.plan.undo_of is None]

    @property
    def cure(self) -> Step | None:
        """The repair that was verified."""
        return next((step for step in self.steps if step.outcome and step.outcome.verdict == "verified"), None)

    @property
    def is_closed(self) -> bool:
        """Whether it was repaired, learned from, and everything is quiet."""
        cure = self.cure
        return self.resolved_at is not None and cure is not None and cure.experience is not None


class Stories:
    """All stories that were heard, oldest first.

    Takes events in order of their offsets; what is heard of an incident before the incident itself is kept for it.
    """

    def __init__(self) -> None:
        self._stories: dict[UUID, Story] = {}
        self._early: dict[UUID, list[tuple[Payload, datetime]]] = {}

    def __iter__(self) -> Iterator[Story]:
        return iter(self._stories.values())

    def get(self, incident: UUID) -> Story | None:
        """The story of an incident; None when it was never heard of."""
        return self._stories.get(incident)

    def of(self, system: str) -> list[Story]:
        """The stories of a system, oldest first."""
        return [story for story in self._stories.values() if story.system == system]

    @property
    def open(self) -> list[Story]:
        """Those that are not resolved."""
        return [story for story in self._stories.values() if story.resolved_at is None]

    def take(self, event: Event[Payload], at: datetime | None = None) -> Story | None:
        """Take in one event, known since ``at``; the story it belongs to, None when it has none (yet)."""
        at = at or event.timestamp
        payload = event.payload
        incident = getattr(payload, "incident", None)
        if incident is None:
            return None
        story = self._stories.get(incident)
        if story is None:
            if not isinstance(payload, AnyIncident):
                self._early.setdefault(incident, []).append((payload, at))
                return None
            story = self._stories[incident] = Story(incident, payload.system, payload, at)
            self._forget_old()
        _tell(story, payload, at)
        for early in self._early.pop(incident, ()):
            _tell(story, *early)
        return story

    def _forget_old(self) -> None:
        resolved = [story.incident for story in self._stories.values() if story.resolved_at is not None]
        for incident in resolved[: max(0, len(self._stories) - KEPT)]:
            del self._stories[incident]


def _tell(story: Story, payload: Payload, at: datetime) -> None:
    if isinstance(payload, AnyIncident):
        story.now = payload
        if isinstance(payload, IncidentResolved):
            story.resolved_at = at
    elif isinstance(payload, ProblemDiagnosed):
        story.diagnosis = payload
    elif isinstance(payload, PlanProposed):
        if all(step.plan.plan != payload.plan for step in story.steps):
            story.steps.append(Step(payload, at))
    else:
        _tell_of_action(story, payload, at)


def _tell_of_action(story: Story, payload: Payload, at: datetime) -> None:
    for step in story.steps:
        if isinstance(payload, ActionStarted) and payload.plan == step.plan.plan:
            step.started_at = at
        elif isinstance(payload, ActionFinished) and payload.plan == step.plan.plan:
            step.finished, step.finished_at = payload, at
        elif isinstance(payload, OutcomeVerified) and payload.plan == step.plan.plan:
            step.outcome, step.outcome_at = payload, at
        elif (
            isinstance(payload, ExperienceRecorded)
            and step.outcome is not None
            and (payload.solution, payload.attempt) == (step.outcome.solution, step.outcome.attempt)
        ):
            step.experience = payload
