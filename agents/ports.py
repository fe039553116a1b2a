"""What agents may ask of the world; ``pipeline`` answers.

A question's answer is recorded under the event in hand (Law 4), so both are plain data.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from topology.payloads.diagnoses import SimilarProblem
from topology.payloads.healing import ActionRequest
from topology.question import Question


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SolutionRecord(Answer):
    """How often one solution, aimed at one target, was tried for one problem, and helped."""

    problem: str
    solution: str
    target: str
    successes: int
    trials: int
    similarity: float = 1.0
    """Of that problem to the one asked about; 1 is the very same."""


class Recollection(Answer):
    """What is known of a problem; empty when it, and everything like it, is new."""

    known: bool = False
    similar: tuple[SimilarProblem, ...] = ()
    records: tuple[SolutionRecord, ...] = ()
    degraded: str = ""
    """Why this may be incomplete, such as a store that could not be reached; empty when it is complete."""


class RecallProblem(Question[Recollection]):
    """What do we know of this problem, and of those like it?"""

    problem: str
    """The fingerprint."""
    text: str
    """Title, description and error patterns, for the search by meaning and by words."""
    system: str
    environment: str = ""
    limit: int = Field(default=5, ge=1, le=50)


class ExecutionReport(Answer):
    """What an executor did."""

    status: Literal["succeeded", "failed", "refused"]
    detail: str = ""
    undo: ActionRequest | None = None


class ExecuteAction(Question[ExecutionReport]):
    """Do exactly this, once.

    ``idempotency_key`` is the action's id: an executor that sees it again answers what it answered before and does
    nothing, so a crash between the doing and the recording does no harm.
    """

    request: ActionRequest
    idempotency_key: str
    dry_run: bool = False
