"""Events for the tests of the knowledge: the whole story of one incident, told by number."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tables.embedding import PROVIDER as PROVIDER
from tables.embedding import embed as embed
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.payloads import (
    ActionFinished,
    ActionRequest,
    ActionStarted,
    ApprovalGiven,
    Candidate,
    ExperienceRecorded,
    IncidentOpened,
    IncidentResolved,
    IncidentUpdated,
    OutcomeVerified,
    PatternPromoted,
    PatternProposed,
    PlanProposed,
    ProblemDiagnosed,
    SolutionRevised,
    Symptom,
)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def event(payload: Payload, seconds: float, *, source: str = "a-stage", tag: str = "") -> Event[Payload]:
    """An event whose id depends on its content, as the engine's do."""
    identity = derived_id(payload.event_type, payload.model_dump_json(), str(seconds), source, tag)
    return Event(id=identity, timestamp=at(seconds), source=source, payload=payload)


def incident_id(number: int) -> UUID:
    return derived_id("incident", number)


def restart(target: str = "ledger") -> ActionRequest:
    return ActionRequest(executor="supervisor", operation="restart", target=target)


def diagnosis(number: int = 1, *, problem: str = "fp:v1:crash", **fields: object) -> ProblemDiagnosed:
    words: dict[str, object] = {
        "incident": incident_id(number),
        "system": "shop",
        "service": "ledger",
        "problem": problem,
        "title": "ledger refuses connections",
        "description": "the health probe of ledger is refused after exit status 139",
        "severity": "critical",
        "confidence": 0.8,
        "error_patterns": ("unit ledger exited with status <n>",),
        "context": {"changes": []},
        "candidates": (Candidate(solution="restart", title="Restart the service", request=restart()),),
    }
    return ProblemDiagnosed.model_validate(words | fields)


def experience(
    number: int,
    *,
    problem: str = "fp:v1:crash",
    solution: str = "restart",
    succeeded: bool = True,
    system: str = "shop",
    environment: str = "",
    target: str = "ledger",
) -> ExperienceRecorded:
    return ExperienceRecorded(
        experience=derived_id("experience", number, problem, solution, target),
        incident=incident_id(number),
        system=system,
        problem=problem,
        solution=solution,
        target=target,
        environment=environment,
        request=restart(target),
        succeeded=succeeded,
        attempt=1,
        recovery_s=1.1 if succeeded else None,
    )


def incident_events(number: int = 1, start: float = 0.0) -> list[Event[Payload]]:
    """Opened, updated and resolved."""
    symptom = Symptom(service="ledger", kind="health.refused", severity="critical", seen_at=at(start))
    told = {
        "incident": incident_id(number),
        "system": "shop",
        "title": f"ledger does not answer ({number})",
        "severity": "critical",
        "opened_at": at(start),
        "why": "one service",
    }
    cleared = symptom.model_copy(update={"cleared_at": at(start + 4)})
    return [
        event(IncidentOpened.model_validate(told | {"symptoms": (symptom,)}), start),
        event(IncidentUpdated.model_validate(told | {"symptoms": (cleared,)}), start + 4),
        event(
            IncidentResolved.model_validate(told | {"symptoms": (cleared,), "resolved_at": at(start + 9)}), start + 9
        ),
    ]


def repair_events(
    number: int = 1, start: float = 0.0, *, problem: str = "fp:v1:crash", succeeded: bool = True
) -> list[Event[Payload]]:
    """Diagnosis, plan, approval, action and outcome of an incident."""
    plan, action = derived_id("plan", number), derived_id("action", number)
    shared = {
        "plan": plan,
        "incident": incident_id(number),
        "system": "shop",
        "problem": problem,
        "solution": "restart",
        "attempt": 1,
        "request": restart(),
    }
    doing = shared | {"action": action}
    verdict = "verified" if succeeded else "rejected"
    digest = restart().digest
    said: Sequence[Payload] = (
        diagnosis(number, problem=problem),
        PlanProposed.model_validate(shared | {"autonomy": "approve"}),
        ApprovalGiven(plan=plan, system="shop", digest=digest, approved=True, by="somebody"),
        ActionStarted.model_validate(doing | {"digest": digest}),
        ActionFinished.model_validate(doing | {"status": "succeeded"}),
        OutcomeVerified.model_validate(doing | {"verdict": verdict}),
    )
    return [event(payload, start + 1 + step / 10) for step, payload in enumerate(said)]


def lesson_events(number: int = 1, start: float = 0.0, *, succeeded: bool = True) -> list[Event[Payload]]:
    """What was learned from an incident: an experience, advice, and a pattern's life."""
    pattern = f"restart-loop-{number % 2}"
    return [
        event(experience(number, succeeded=succeeded), start + 10, source="learn"),
        event(
            SolutionRevised(
                solution="restart", system="shop", problem="fp:v1:crash", successes=1, trials=1, advice="first choice"
            ),
            start + 10,
            source="learn",
            tag=str(number),
        ),
        event(
            PatternProposed(
                pattern=pattern,
                system="shop",
                rule={"seq": ["exit", number]},
                problem="fp:v1:crash",
                confidence=(number % 10) / 10,
                parent="" if number < 2 else "restart-loop-parent",
            ),
            start + 11,
            source="mine",
        ),
        event(
            PatternPromoted(pattern=pattern, system="shop", pattern_version=number + 1, stage="shadow"),
            start + 12,
            source="evolve",
        ),
    ]


def whole_story(number: int = 1, start: float = 0.0, *, succeeded: bool = True) -> list[Event[Payload]]:
    """Everything one incident leads to."""
    return [
        *incident_events(number, start),
        *repair_events(number, start, succeeded=succeeded),
        *lesson_events(number, start, succeeded=succeeded),
    ]
