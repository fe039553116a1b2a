"""Ready-made payloads for tests: findings, incidents, plans, actions."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from tests.agents.world import at
from topology.ids import derived_id
from topology.payloads.findings import AnomalyCleared, AnomalyDetected, Severity
from topology.payloads.healing import ActionFinished, ActionRequest, Autonomy, OutcomeVerified, PlanProposed
from topology.payloads.incidents import Change, IncidentOpened, IncidentResolved, IncidentUpdated, Symptom
from topology.spec import ServiceSpec, SolutionSpec, SystemSpec

INCIDENT = derived_id("incident", 1)

SYSTEMS = {
    "ledger": SystemSpec(
        autonomy="auto",
        services={
            "ledger": ServiceSpec(depends_on=("ledger-store",)),
            "ledger-store": ServiceSpec(),
            "ledger-report": ServiceSpec(kind="batch", depends_on=("ledger-store",)),
        },
    )
}

SOLUTIONS = (
    SolutionSpec(id="restart", title="Restart", executor="process", operation="restart", cost=0.05, risk=0.05),
    SolutionSpec(
        id="roll-back",
        title="Roll back",
        executor="configuration",
        operation="rollback",
        target="change",
        kinds=("health.*",),
    ),
    SolutionSpec(
        id="stop-batch",
        title="Stop",
        executor="process",
        operation="stop",
        target="batch",
        kinds=("latency.*",),
        cost=0.2,
    ),
    SolutionSpec(
        id="restart-dependency",
        title="Restart what it needs",
        executor="process",
        operation="restart",
        target="dependencies",
        kinds=("latency.*",),
        cost=0.3,
    ),
)


def detected(
    kind: str, service: str = "ledger", *, subject: str = "", severity: Severity = "high", system: str = "ledger"
) -> AnomalyDetected:
    """A symptom that begins."""
    summary = f"{service} has {kind}"
    return AnomalyDetected(
        service=service, system=system, kind=kind, subject=subject, severity=severity, summary=summary
    )


def cleared(kind: str, service: str = "ledger", *, subject: str = "") -> AnomalyCleared:
    """A symptom that ends."""
    return AnomalyCleared(service=service, system="ledger", kind=kind, subject=subject)


def symptom(
    kind: str,
    service: str = "ledger",
    *,
    subject: str = "",
    severity: Severity = "high",
    seen: float = 0,
    over: float | None = None,
) -> Symptom:
    """A symptom seen at, and over at, so many seconds."""
    return Symptom(
        service=service,
        kind=kind,
        subject=subject,
        severity=severity,
        seen_at=at(seen),
        cleared_at=None if over is None else at(over),
    )


def _incident(symptoms: tuple[Symptom, ...], changes: tuple[Change, ...], incident: UUID) -> dict[str, Any]:
    return {
        "incident": incident,
        "system": "ledger",
        "title": "ledger is ill",
        "severity": "high",
        "opened_at": at(0),
        "symptoms": symptoms,
        "changes": changes,
    }


def opened(*symptoms: Symptom, changes: tuple[Change, ...] = (), incident: UUID = INCIDENT) -> IncidentOpened:
    """An incident that begins."""
    return IncidentOpened(**_incident(symptoms, changes, incident))


def updated(*symptoms: Symptom, changes: tuple[Change, ...] = (), incident: UUID = INCIDENT) -> IncidentUpdated:
    """An incident that goes on."""
    return IncidentUpdated(**_incident(symptoms, changes, incident))


def resolved(*symptoms: Symptom, seconds: float, incident: UUID = INCIDENT) -> IncidentResolved:
    """An incident that ends."""
    return IncidentResolved(**_incident(symptoms, (), incident), resolved_at=at(seconds))


def request(operation: str = "restart", target: str = "ledger") -> ActionRequest:
    """Something an executor can do."""
    return ActionRequest(executor="process", operation=operation, target=target)


def plan(
    number: int = 1,
    *,
    autonomy: Autonomy = "auto",
    undo_of: UUID | None = None,
    solution: str = "restart",
    incident: UUID = INCIDENT,
) -> PlanProposed:
    """A plan for the incident."""
    return PlanProposed(
        plan=derived_id("plan", number),
        incident=incident,
        system="ledger",
        problem="fp:v1:1",
        solution=solution,
        request=request(),
        attempt=number,
        autonomy=autonomy,
        undo_of=undo_of,
    )


def finished(
    of: PlanProposed,
    status: Literal["succeeded", "failed", "refused"] = "succeeded",
    *,
    undo: ActionRequest | None = None,
) -> ActionFinished:
    """The end of the action of a plan."""
    return ActionFinished(
        action=derived_id("action", of.plan),
        plan=of.plan,
        incident=of.incident,
        system=of.system,
        problem=of.problem,
        solution=of.solution,
        attempt=of.attempt,
        request=of.request,
        undo_of=of.undo_of,
        recalled=of.recalled,
        status=status,
        undo=undo,
    )


def outcome(
    of: PlanProposed, verdict: Literal["verified", "rejected"], *, undo: ActionRequest | None = None
) -> OutcomeVerified:
    """What came of the action of a plan."""
    return OutcomeVerified(
        action=derived_id("action", of.plan),
        plan=of.plan,
        incident=of.incident,
        system=of.system,
        problem=of.problem,
        solution=of.solution,
        attempt=of.attempt,
        request=of.request,
        verdict=verdict,
        recalled=of.recalled,
        healthy_after_s=1.5 if verdict == "verified" else None,
        undo=undo,
    )
