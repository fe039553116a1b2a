"""What is intended, allowed, done, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import Field

from topology.event import Payload
from topology.registry import event_type

Autonomy = Literal["observe", "suggest", "approve", "auto"]
"""How far an agent may go on its own, least first."""


class ActionRequest(Payload):
    """Exactly what an executor is to do; its digest is what an approval binds to."""

    executor: str = Field(min_length=1)
    operation: str = Field(min_length=1)
    target: str = Field(min_length=1)
    """The service the operation is for."""
    parameters: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the request."""
        return sha256(orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)).hexdigest()


@event_type("plan.proposed")
class PlanProposed(Payload):
    """The next thing to try for a problem.

    Attributes:
        plan: derived from the diagnosis and the attempt.
        attempt: 1 for the first thing tried in an incident.
        undo_of: the action this plan takes back; None for a repair.
        recalled: the solution was chosen because of an earlier experience.
        reason: why this one, for people.
    """

    plan: UUID
    incident: UUID
    system: str
    problem: str
    solution: str
    request: ActionRequest
    attempt: int = Field(ge=1)
    autonomy: Autonomy
    undo_of: UUID | None = None
    recalled: bool = False
    success_rate: float | None = None
    experiences: int = 0
    reason: str = ""


@event_type("approval.given")
class ApprovalGiven(Payload):
    """Somebody allowed or denied one exact request."""

    plan: UUID
    system: str
    digest: str
    approved: bool
    by: str
    reason: str = ""


class _Action(Payload):
    """Common to the begin and the end of an action; ``action`` is derived from the plan, so there is one per plan."""

    action: UUID
    plan: UUID
    incident: UUID
    system: str
    problem: str
    solution: str
    attempt: int
    request: ActionRequest
    undo_of: UUID | None = None
    recalled: bool = False


@event_type("action.started")
class ActionStarted(_Action):
    """The action passed every guard and is handed to its executor."""

    digest: str


@event_type("action.finished")
class ActionFinished(_Action):
    """The executor answered.

    ``status`` is ``succeeded`` (it did what was asked, whether or not that helped), ``failed`` or ``refused`` (a guard
    or the executor said no; nothing was done).
    """

    status: Literal["succeeded", "failed", "refused"]
    detail: str = ""
    undo: ActionRequest | None = None
    """What takes the action back, where anything does."""


@event_type("outcome.verified")
class OutcomeVerified(Payload):
    """Whether a repair helped: the one outcome of an action.

    ``verified`` when every symptom of the incident was gone for the hold time, else ``rejected``.
    """

    action: UUID
    plan: UUID
    incident: UUID
    system: str
    problem: str
    solution: str
    attempt: int
    request: ActionRequest
    verdict: Literal["verified", "rejected"]
    healthy_after_s: float | None = None
    held_for_s: float = 0.0
    recalled: bool = False
    detail: str = ""
    undo: ActionRequest | None = None
