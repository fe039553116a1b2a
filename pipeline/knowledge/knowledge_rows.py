"""What events teach, as rows of migration 002."""

from __future__ import annotations

from pipeline.knowledge import upserts
from pipeline.knowledge.batch import Batch
from pipeline.knowledge.vectors import problem_text
from tables.knowledge import AFFECTED, Step
from topology.event import Event, Payload
from topology.payloads import (
    ActionRequest,
    ExperienceRecorded,
    PatternPromoted,
    PatternProposed,
    ProblemDiagnosed,
    SolutionRevised,
)


def add_knowledge(batch: Batch, event: Event[Payload]) -> bool:
    """Add what the event teaches; False when it teaches nothing."""
    match event.payload:
        case ProblemDiagnosed() as diagnosis:
            _add_problem(batch, event, diagnosis)
            _add_solutions(batch, event, diagnosis)
        case ExperienceRecorded() as experience:
            _add_experience(batch, event, experience)
        case SolutionRevised() as revision:
            _add_revision(batch, event, revision)
        case PatternProposed() as proposal:
            _add_proposal(batch, event, proposal)
        case PatternPromoted() as promotion:
            _add_promotion(batch, event, promotion)
        case _:
            return False
    return True


def _add_problem(batch: Batch, event: Event[Payload], diagnosis: ProblemDiagnosed) -> None:
    text = problem_text(diagnosis.title, diagnosis.description, diagnosis.error_patterns)
    batch.problems_diagnosed.add(diagnosis.problem)
    batch.add(
        upserts.PROBLEMS,
        fingerprint=diagnosis.problem,
        system=diagnosis.system,
        service=diagnosis.service,
        title=diagnosis.title,
        description=diagnosis.description,
        error_patterns=diagnosis.error_patterns,
        context=diagnosis.model_dump(mode="json", include={"context"})["context"],
        severity=diagnosis.severity,
        search_text=text,
        embedding=batch.embedding.vector(text),
        embedding_provider=batch.embedding.provider,
        first_seen=event.timestamp,
        last_seen=event.timestamp,
        times_seen=1,
        as_of=event.timestamp,
        event=event.id,
    )


def _add_solutions(batch: Batch, event: Event[Payload], diagnosis: ProblemDiagnosed) -> None:
    """Solutions are described by the candidates of diagnoses; of those with one name but several targets the first counts."""
    described: set[str] = set()
    for candidate in diagnosis.candidates:
        if candidate.solution in described:
            continue
        described.add(candidate.solution)
        batch.add(
            upserts.SOLUTIONS,
            id=candidate.solution,
            title=candidate.title,
            steps=[_step(candidate.request, diagnosis.service)],
            cost=candidate.cost,
            risk=candidate.risk,
            reversible=candidate.reversible,
            as_of=event.timestamp,
            event=event.id,
        )


def _step(request: ActionRequest, affected: str) -> dict[str, object]:
    target = AFFECTED if request.target == affected else request.target
    step = Step(executor=request.executor, operation=request.operation, target=target, parameters=request.parameters)
    return step.model_dump(mode="json")


def _add_experience(batch: Batch, event: Event[Payload], experience: ExperienceRecorded) -> None:
    batch.problems_treated.add(experience.problem)
    batch.add(
        upserts.EXPERIENCES,
        id=experience.experience,
        incident=experience.incident,
        system=experience.system,
        environment=experience.environment,
        problem=experience.problem,
        solution=experience.solution,
        target=experience.target,
        request=experience.request.model_dump(mode="json"),
        succeeded=experience.succeeded,
        attempt=experience.attempt,
        recovery_s=experience.recovery_s,
        detail=experience.detail,
        as_of=event.timestamp,
        event=event.id,
    )


def _add_revision(batch: Batch, event: Event[Payload], revision: SolutionRevised) -> None:
    batch.add(
        upserts.SOLUTION_REVISIONS,
        event=event.id,
        solution=revision.solution,
        problem=revision.problem,
        system=revision.system,
        successes=revision.successes,
        trials=revision.trials,
        advice=revision.advice,
        as_of=event.timestamp,
    )


def _add_proposal(batch: Batch, event: Event[Payload], proposal: PatternProposed) -> None:
    pattern = ("pattern", proposal.pattern)
    batch.add(
        upserts.PATTERNS_PROPOSED,
        id=proposal.pattern,
        system=proposal.system,
        rule=proposal.model_dump(mode="json", include={"rule"})["rule"],
        problem=proposal.problem,
        parent=proposal.parent,
        confidence=proposal.confidence,
        proposed_at=event.timestamp,
        proposed_event=event.id,
    )
    batch.relate(event, "DISCOVERED", ("agent", event.source), pattern)
    if proposal.problem:
        batch.relate(event, "DETECTS", pattern, ("problem", proposal.problem), proposal.confidence)
    if proposal.parent:
        batch.relate(event, "EVOLVES_INTO", ("pattern", proposal.parent), pattern)


def _add_promotion(batch: Batch, event: Event[Payload], promotion: PatternPromoted) -> None:
    batch.add(
        upserts.PATTERNS_PROMOTED,
        id=promotion.pattern,
        system=promotion.system,
        stage=promotion.stage,
        version=promotion.pattern_version,
        precision=promotion.precision,
        promoted_at=event.timestamp,
        promoted_event=event.id,
    )
    batch.add(
        upserts.PATTERN_PROMOTIONS,
        event=event.id,
        pattern=promotion.pattern,
        system=promotion.system,
        version=promotion.pattern_version,
        stage=promotion.stage,
        precision=promotion.precision,
        as_of=event.timestamp,
    )
