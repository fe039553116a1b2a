"""What events say about one incident, as rows of migration 001."""

from __future__ import annotations

from pipeline.knowledge import upserts
from pipeline.knowledge.batch import Batch
from topology.event import Event, Payload
from topology.payloads import (
    ActionFinished,
    ActionStarted,
    ApprovalGiven,
    IncidentOpened,
    IncidentResolved,
    IncidentUpdated,
    OutcomeVerified,
    PlanProposed,
    ProblemDiagnosed,
)


def add_story(batch: Batch, event: Event[Payload]) -> bool:
    """Add what the event says about an incident; False when it says nothing."""
    match event.payload:
        case IncidentOpened() | IncidentUpdated() | IncidentResolved() as incident:
            _add_incident(batch, event, incident)
        case ProblemDiagnosed() as diagnosis:
            _add_diagnosis(batch, event, diagnosis)
        case PlanProposed() as plan:
            _add_plan(batch, event, plan)
        case ApprovalGiven() as approval:
            _add_approval(batch, event, approval)
        case ActionStarted() | ActionFinished() as action:
            _add_action(batch, event, action)
        case OutcomeVerified() as outcome:
            _add_outcome(batch, event, outcome)
        case _:
            return False
    return True


def _as_said(payload: Payload) -> dict[str, object]:
    return {"schema_version": payload.version, "payload": payload.model_dump(mode="json")}


def _add_incident(
    batch: Batch, event: Event[Payload], incident: IncidentOpened | IncidentUpdated | IncidentResolved
) -> None:
    said = incident.model_dump(mode="json", include={"symptoms", "changes"})
    resolved_at = incident.resolved_at if isinstance(incident, IncidentResolved) else None
    batch.add(
        upserts.INCIDENTS,
        id=incident.incident,
        system=incident.system,
        title=incident.title,
        severity=incident.severity,
        status="open" if resolved_at is None else "resolved",
        opened_at=incident.opened_at,
        resolved_at=resolved_at,
        symptoms=said["symptoms"],
        changes=said["changes"],
        why=incident.why,
        as_of=event.timestamp,
        step=(IncidentOpened, IncidentUpdated, IncidentResolved).index(type(incident)),
        event=event.id,
    )


def _add_diagnosis(batch: Batch, event: Event[Payload], diagnosis: ProblemDiagnosed) -> None:
    batch.add(
        upserts.DIAGNOSES,
        event=event.id,
        incident=diagnosis.incident,
        system=diagnosis.system,
        service=diagnosis.service,
        problem=diagnosis.problem,
        recalled=diagnosis.recalled,
        as_of=event.timestamp,
        **_as_said(diagnosis),
    )


def _add_plan(batch: Batch, event: Event[Payload], plan: PlanProposed) -> None:
    batch.add(
        upserts.PLANS,
        id=plan.plan,
        incident=plan.incident,
        system=plan.system,
        problem=plan.problem,
        solution=plan.solution,
        target=plan.request.target,
        attempt=plan.attempt,
        autonomy=plan.autonomy,
        digest=plan.request.digest,
        undo_of=plan.undo_of,
        as_of=event.timestamp,
        event=event.id,
        **_as_said(plan),
    )


def _add_approval(batch: Batch, event: Event[Payload], approval: ApprovalGiven) -> None:
    batch.add(
        upserts.APPROVALS,
        event=event.id,
        plan=approval.plan,
        digest=approval.digest,
        approved=approval.approved,
        decided_by=approval.by,
        as_of=event.timestamp,
        **_as_said(approval),
    )


def _add_action(batch: Batch, event: Event[Payload], action: ActionStarted | ActionFinished) -> None:
    half = "started" if isinstance(action, ActionStarted) else "finished"
    batch.add(
        upserts.ACTIONS_STARTED if half == "started" else upserts.ACTIONS_FINISHED,
        id=action.action,
        plan=action.plan,
        incident=action.incident,
        system=action.system,
        problem=action.problem,
        solution=action.solution,
        target=action.request.target,
        **{
            f"{half}_at": event.timestamp,
            f"{half}_event": event.id,
            f"{half}_version": action.version,
            half: action.model_dump(mode="json"),
        },
    )


def _add_outcome(batch: Batch, event: Event[Payload], outcome: OutcomeVerified) -> None:
    batch.add(
        upserts.OUTCOMES,
        action=outcome.action,
        plan=outcome.plan,
        incident=outcome.incident,
        system=outcome.system,
        problem=outcome.problem,
        solution=outcome.solution,
        verdict=outcome.verdict,
        as_of=event.timestamp,
        event=event.id,
        **_as_said(outcome),
    )
