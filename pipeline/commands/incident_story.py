"""The story of a stored incident in words: one line per thing that happened, in order of time.

The console tells the same of incidents that happen now (``pipeline.console.telling``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pipeline.knowledge.story import IncidentNow, IncidentStory, Moment
from topology.event import Payload
from topology.payloads import (
    ActionFinished,
    ActionRequest,
    ActionStarted,
    ApprovalGiven,
    ExperienceRecorded,
    OutcomeVerified,
    PlanProposed,
    ProblemDiagnosed,
)

STYLES = {
    "seen": "red", "cleared": "green", "changed": "yellow", "concluded": "cyan", "planned": "blue", "undoing": "blue",
    "approved": "green", "denied": "yellow", "started": "blue", "succeeded": "green", "failed": "red",
    "refused": "yellow", "verified": "green", "rejected": "red", "learned": "magenta", "resolved": "green",
}  # fmt: skip
"""The colour of each kind of line, where colours are shown."""


class Line(NamedTuple):
    """Something that happened: its kind in one word, and what it was."""

    at: datetime
    label: str
    text: str


def headline(now: IncidentNow) -> str:
    """Which incident, and how it stands."""
    if now.resolved_at is None:
        state = "open"
    else:
        state = f"resolved after {(now.resolved_at - now.opened_at).total_seconds():.1f} s"
    return f"{now.system}: {now.title} · {now.severity} · {state}"


def lines(story: IncidentStory) -> list[Line]:
    """Everything that is known of the incident, in order of time."""
    told = [*_of_incident(story.incident), *(_of_moment(moment) for moment in story.moments)]
    if story.incident.resolved_at is not None:
        told.append(Line(story.incident.resolved_at, "resolved", "everything has been quiet since"))
    return sorted(told, key=lambda line: line.at)  # stable: of one time, as the loop goes


def _of_incident(now: IncidentNow) -> Iterator[Line]:
    for change in now.changes:
        yield Line(change.at, "changed", f"{change.service} {change.kind} {change.change}: {change.summary}")
    for symptom in now.symptoms:
        what = " ".join(part for part in (symptom.service, symptom.kind, symptom.subject) if part)
        yield Line(symptom.seen_at, "seen", f"{what}: {symptom.summary}" if symptom.summary else what)
        if symptom.cleared_at is not None:
            yield Line(symptom.cleared_at, "cleared", what)


def _of_moment(moment: Moment) -> Line:
    label, text = _words(moment.said)
    return Line(moment.at, label, text)


def _words(said: Payload) -> tuple[str, str]:
    match said:
        case ProblemDiagnosed():
            known = "known problem" if said.recalled else "new problem"
            return "concluded", f"{said.title} ({known} {said.problem}, confidence {said.confidence:.0%})"
        case PlanProposed():
            label = "planned" if said.undo_of is None else "undoing"
            how = f"{_what(said.request)} (attempt {said.attempt}, {said.autonomy})"
            return label, f"{how}: {said.reason}" if said.reason else how
        case ApprovalGiven():
            because = f": {said.reason}" if said.reason else ""
            return "approved" if said.approved else "denied", f"by {said.by}{because}"
        case ActionStarted():
            return "started", f"{_what(said.request)} by executor {said.request.executor}"
        case ActionFinished():
            return said.status, said.detail or _what(said.request)
        case OutcomeVerified():
            return said.verdict, f"{said.solution} on {said.request.target}{_result(said)}"
        case ExperienceRecorded():
            verb = "helps against" if said.succeeded else "does not help against"
            return "learned", f"{said.solution} on {said.target} {verb} {said.problem}"
        case _:
            return said.event_type, said.model_dump_json()


def _what(request: ActionRequest) -> str:
    return f"{request.operation} {request.target}"


def _result(outcome: OutcomeVerified) -> str:
    if outcome.verdict == "rejected":
        return f": {outcome.detail or 'it did not help'}"
    healthy = f": well after {outcome.healthy_after_s:.1f} s" if outcome.healthy_after_s is not None else ":"
    return f"{healthy}{',' if healthy != ':' else ''} held for {outcome.held_for_s:.1f} s"
