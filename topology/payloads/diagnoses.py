"""Why it is wrong, and what could help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import Field

from topology.event import Payload
from topology.payloads.findings import Severity
from topology.payloads.healing import ActionRequest
from topology.registry import event_type


class Candidate(Payload):
    """A solution that could be tried, with what is known of it.

    Attributes:
        successes, trials: experiences with this solution for this or a similar problem; fractions when the experience
            of a similar problem counts in part.
        cost, risk: as the solution declares them, 0 (nothing) to 1 (as bad as the problem).
    """

    solution: str
    title: str
    request: ActionRequest
    successes: float = 0.0
    trials: float = 0.0
    cost: float = Field(default=0.1, ge=0.0, le=1.0)
    risk: float = Field(default=0.1, ge=0.0, le=1.0)
    reversible: bool = True
    proven: bool = False
    """It has helped with this very problem before."""


class SimilarProblem(Payload):
    """A known problem that resembles this one; ``similarity`` from 0 to 1 (the same)."""

    problem: str
    title: str
    similarity: float


@event_type("problem.diagnosed")
class ProblemDiagnosed(Payload):
    """The most likely cause of an incident.

    Attributes:
        problem: the fingerprint, ``fp:v1:...``: equal for the same problem met again.
        service: the root cause's service.
        recalled: the knowledge knew this very problem.
        evidence: symptoms, in words, that led to this.
    """

    incident: UUID
    system: str
    service: str
    problem: str
    title: str
    description: str
    severity: Severity
    confidence: float = Field(ge=0.0, le=1.0)
    recalled: bool = False
    evidence: tuple[str, ...] = ()
    error_patterns: tuple[str, ...] = ()
    context: Mapping[str, Any] = Field(default_factory=dict)
    similar: tuple[SimilarProblem, ...] = ()
    candidates: tuple[Candidate, ...] = ()
