"""What is known: problems, solutions, patterns, experiences, and how they relate.

These are the nodes and edges of the knowledge graph as every package speaks of them.  How they are stored is the
pipeline's business; how solutions are ranked by experience is in ``tables.ranking``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from tables.embedding import DIMENSIONS
from topology.payloads.findings import Severity
from topology.payloads.healing import ActionRequest

AFFECTED = "{service}"
"""Stands for the service a problem is rooted in, in a step's target."""


class Known(BaseModel):
    """Base of everything known: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Known):
    """Something that goes wrong, met once or often.

    Attributes:
        fingerprint: its identity (``tables.fingerprint``).
        error_patterns: templates of log lines that came with it.
        context: where it was met: system, service, what had changed.
        version: raised with every change of the description.
    """

    fingerprint: str = Field(min_length=1)
    title: str = Field(min_length=1)
    description: str = ""
    error_patterns: tuple[str, ...] = ()
    context: Mapping[str, Any] = Field(default_factory=dict)
    severity: Severity = "warning"
    version: int = Field(default=1, ge=1)

    @property
    def text(self) -> str:
        """What is embedded and searched: title, description and error patterns."""
        return "\n".join(part for part in (self.title, self.description, *self.error_patterns) if part)


class Step(Known):
    """One action of a solution; ``target`` is a service, or ``{service}`` for the one that is affected."""

    executor: str = Field(min_length=1)
    operation: str = Field(min_length=1)
    target: str = Field(default=AFFECTED, min_length=1)
    parameters: Mapping[str, Any] = Field(default_factory=dict)

    def request_for(self, service: str) -> ActionRequest:
        """The exact request of this step for an affected service."""
        return ActionRequest(
            executor=self.executor,
            operation=self.operation,
            target=service if self.target == AFFECTED else self.target,
            parameters=self.parameters,
        )


class Solution(Known):
    """Something that may help.

    Attributes:
        cost: of doing it, whether or not it helps; 0 nothing, 1 as bad as the problem.
        risk: how likely it does harm, 0 to 1.
        blast_radius: the share of the system that such harm would reach, 0 to 1.
        reversible: whether every step can be taken back.
    """

    id: str = Field(min_length=1)
    title: str = Field(min_length=1)
    steps: tuple[Step, ...] = Field(min_length=1)
    prerequisites: tuple[str, ...] = ()
    expected_outcome: str = ""
    side_effects: tuple[str, ...] = ()
    cost: float = Field(default=0.1, ge=0.0, le=1.0)
    risk: float = Field(default=0.1, ge=0.0, le=1.0)
    blast_radius: float = Field(default=0.1, ge=0.0, le=1.0)
    reversible: bool = True
    version: int = Field(default=1, ge=1)

    def requests_for(self, service: str) -> tuple[ActionRequest, ...]:
        """The exact requests of all steps, in order, for an affected service."""
        return tuple(step.request_for(service) for step in self.steps)


class PatternRevision(Known):
    """One version of a pattern that was, and how it did."""

    version: int = Field(ge=1)
    at: AwareDatetime
    matches: int = Field(ge=0)
    right: int = Field(ge=0)
    note: str = ""

    @model_validator(mode="after")
    def _is_right_at_most_as_often_as_it_matches(self) -> Self:
        if self.right > self.matches:
            msg = f"found {self.right} right of {self.matches} matches; count a match before counting it as right"
            raise ValueError(msg)
        return self


class Pattern(Known):
    """What announces, or is, a problem.

    Attributes:
        rule: in the pattern language.
        contexts: systems or kinds of service it applies to; everywhere when empty.
        confidence: how often a match is right, 0 to 1.
        history: its earlier versions, oldest first.
    """

    id: str = Field(min_length=1)
    title: str = Field(min_length=1)
    rule: Mapping[str, Any]
    contexts: tuple[str, ...] = ()
    confidence: float = Field(default=0.5, ge=0.0, le=1.0)
    stage: Literal["proposed", "shadow", "active", "retired"] = "proposed"
    history: tuple[PatternRevision, ...] = ()
    version: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _has_a_history_that_leads_to_it(self) -> Self:
        versions = [revision.version for revision in self.history]
        if versions != sorted(set(versions)) or (versions and versions[-1] >= self.version):
            msg = f"found versions {versions} in the history of version {self.version}; expected them rising, and below it"
            raise ValueError(msg)
        return self


class Experience(Known):
    """One solution was tried for one problem, and this came of it.

    Attributes:
        recovery_s: seconds from the end of the action to health; None when it did not help.
    """

    id: UUID
    problem: str = Field(min_length=1)
    solution: str = Field(min_length=1)
    target: str = Field(min_length=1)
    environment: str = ""
    succeeded: bool
    at: AwareDatetime
    recovery_s: float | None = Field(default=None, ge=0.0)
    detail: str = ""


class Embedding(Known):
    """A vector and who made it; only vectors of one provider can be compared."""

    provider: str = Field(min_length=1)
    vector: tuple[float, ...] = Field(min_length=DIMENSIONS, max_length=DIMENSIONS)


NodeKind = Literal["problem", "solution", "prerequisite", "pattern", "agent"]
RelationKind = Literal["SOLVED_BY", "REQUIRES", "DETECTS", "EVOLVES_INTO", "DISCOVERED"]

ENDS: Mapping[RelationKind, tuple[NodeKind, NodeKind]] = {
    "SOLVED_BY": ("problem", "solution"),
    "REQUIRES": ("solution", "prerequisite"),
    "DETECTS": ("pattern", "problem"),
    "EVOLVES_INTO": ("pattern", "pattern"),
    "DISCOVERED": ("agent", "pattern"),
}
"""What each kind of relation leads from and to."""


class Node(Known):
    """One end of a relation."""

    kind: NodeKind
    id: str = Field(min_length=1)


class Relation(Known):
    """An edge of the knowledge graph; its kind decides what may be at its ends."""

    kind: RelationKind
    source: Node
    target: Node
    since: AwareDatetime | None = None
    evidence: tuple[UUID, ...] = ()

    @model_validator(mode="after")
    def _joins_what_its_kind_joins(self) -> Self:
        found, expected = (self.source.kind, self.target.kind), ENDS[self.kind]
        if found != expected:
            msg = f"{self.kind} leads from {expected[0]} to {expected[1]}, found {found[0]} to {found[1]}"
            raise ValueError(msg)
        return self
