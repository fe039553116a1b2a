"""What could be tried, and what is known of it."""

from __future__ import annotations

from agents.diagnostic.candidates import candidates_for
from agents.ports import Recollection, SolutionRecord
from tests.agents.stories import SOLUTIONS, SYSTEMS
from tests.agents.world import at
from topology.payloads.diagnoses import Candidate
from topology.payloads.incidents import Change


def record(
    solution: str, target: str, successes: int, trials: int, problem: str = "p", similarity: float = 1.0
) -> SolutionRecord:
    return SolutionRecord(
        problem=problem, solution=solution, target=target, successes=successes, trials=trials, similarity=similarity
    )


def found(kind: str, *records: SolutionRecord, changes: tuple[Change, ...] = ()) -> list[Candidate]:
    recollection = Recollection(records=records)
    services = SYSTEMS["ledger"].services
    return list(
        candidates_for(
            "p", kind, "ledger", solutions=SOLUTIONS, services=services, changes=changes, recollection=recollection
        )
    )


def change(service: str, *, reversible: bool) -> Change:
    return Change(service=service, change="v2", kind="configuration", reversible=reversible, at=at(0))


def test_solutions_for_the_kind_of_symptom_are_aimed_at_their_targets() -> None:
    assert [(c.solution, c.request.target) for c in found("latency.high")] == [
        ("restart", "ledger"),
        ("stop-batch", "ledger-report"),
        ("restart-dependency", "ledger-store"),
    ]


def test_a_rollback_is_aimed_at_services_with_a_change_that_can_be_taken_back() -> None:
    changes = (change("ledger", reversible=True), change("mail", reversible=False), change("ledger", reversible=True))

    assert [c.request.target for c in found("health.refused", changes=changes)[1:]] == ["ledger"]
    assert [c.solution for c in found("health.refused")] == ["restart"]


def test_experience_with_similar_problems_counts_by_similarity_and_proves_nothing() -> None:
    restart = found("latency.high", record("restart", "ledger", 3, 4, "other", 0.5))[0]

    assert (restart.successes, restart.trials, restart.proven) == (1.5, 2.0, False)


def test_experience_with_this_very_problem_silences_what_is_merely_similar() -> None:
    restart, stop, _ = found(
        "latency.high",
        record("restart", "ledger", 0, 1),
        record("stop-batch", "ledger-report", 1, 1),
        record("restart", "ledger", 50, 50, "other", 0.9),
    )

    assert (restart.successes, restart.trials, restart.proven) == (0, 1, False)
    assert (stop.successes, stop.trials, stop.proven) == (1, 1, True)


def test_experience_with_another_target_does_not_count() -> None:
    assert found("latency.high", record("restart", "ledger-store", 5, 5))[0].trials == 0
