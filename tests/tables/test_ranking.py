"""What to try first."""

from __future__ import annotations

import math

import pytest

from tables.ranking import (
    NOTHING,
    Choice,
    Record,
    Tally,
    do_nothing,
    fuse_rankings,
    posterior_mean,
    rank_choices,
    success_probability,
    wilson_lower_bound,
)


def record(successes: float, trials: float, **more: str | float) -> Record:
    known = {
        "problem": "p",
        "solution": "restart",
        "target": "ledger",
        "environment": "prod",
        "similarity": 1.0,
        **more,
    }
    return Record(
        problem=str(known["problem"]),
        solution=str(known["solution"]),
        target=str(known["target"]),
        environment=str(known["environment"]),
        tally=Tally(successes, trials),
        similarity=float(known["similarity"]),
    )


def probability(*records: Record, solution: str = "restart") -> float:
    return success_probability(records, solution=solution, problem="p", target="ledger", environment="prod")


def test_what_is_unknown_helps_every_other_time() -> None:
    assert probability() == 0.5


def test_nothing_helps_seldom_until_experience_says_otherwise() -> None:
    assert probability(solution=NOTHING) == pytest.approx(0.1)
    assert probability(record(20, 20, solution=NOTHING), solution=NOTHING) > 0.8


def test_experience_of_one_level_is_the_mean_of_a_beta_distribution() -> None:
    assert probability(record(3, 4)) == pytest.approx((1 + 3) / (2 + 4))
    assert probability(record(3, 4, target="other")) == pytest.approx((1 + 3) / (2 + 4))


def test_records_of_other_solutions_do_not_count() -> None:
    assert probability(record(9, 9, solution="rollback")) == 0.5


def test_a_few_local_experiences_bend_the_general_picture_and_many_replace_it() -> None:
    elsewhere = record(40, 40, target="other")
    assert probability(elsewhere) > 0.95
    assert 0.6 < probability(elsewhere, record(0, 2)) < 0.7
    assert probability(elsewhere, record(0, 40)) < 0.12


def test_another_environment_counts_less_than_this_one() -> None:
    staging_failed = [record(0, 4, environment="staging"), record(4, 4)]
    staging_worked = [record(4, 4, environment="staging"), record(0, 4)]
    assert probability(*staging_failed) > 0.5 > probability(*staging_worked)


def test_similar_problems_count_by_their_similarity_and_never_for_more_than_five() -> None:
    near = probability(record(3, 3, problem="q", similarity=0.9))
    far = probability(record(3, 3, problem="q", similarity=0.2))
    assert 0.5 < far < near < probability(record(3, 3))
    flood = probability(record(1000, 1000, problem="q", similarity=1.0))
    assert flood == pytest.approx(6 / 7)


def test_the_wilson_bound_opens_the_gate_with_evidence_only() -> None:
    assert wilson_lower_bound(Tally(0, 0)) == 0
    assert wilson_lower_bound(Tally(2, 2)) < 0.6
    assert wilson_lower_bound(Tally(10, 10)) > 0.8 > wilson_lower_bound(Tally(9, 10))
    assert wilson_lower_bound(Tally(0, 10)) == pytest.approx(0, abs=1e-12)


def test_a_known_bound_is_met() -> None:
    """Wilson (1927), 95 % two-sided: 8 of 10 gives .4902."""
    assert wilson_lower_bound(Tally(8, 10), z=1.959964) == pytest.approx(0.4902, abs=1e-4)


def test_tallies_add_up() -> None:
    assert Tally(1, 2) | Tally(2, 3) == Tally(3, 5)
    assert Tally(1, 3).failures == 2
    assert posterior_mean(Tally(1, 1)) == pytest.approx(2 / 3)


def test_the_most_useful_choice_comes_first_and_nothing_is_always_there() -> None:
    ranked = rank_choices(
        [Choice("reinstall", 0.95, cost=0.6, risk=0.5, blast_radius=1.0), Choice("restart", 0.7, cost=0.05, risk=0.1)]
    )
    assert [choice.solution for choice in ranked] == ["restart", NOTHING, "reinstall"]


def test_waiting_wins_where_problems_pass() -> None:
    assert rank_choices([Choice("restart", 0.7, cost=0.2), do_nothing(0.9)])[0].solution == NOTHING
    assert rank_choices([])[0].solution == NOTHING


def test_a_risk_weighs_by_what_it_reaches() -> None:
    assert Choice("a", 0.5, risk=0.5, blast_radius=0.5).utility() == 0.25
    assert Choice("a", 0.5, cost=0.1).utility(benefit=2.0) == 0.9


def test_equal_utilities_are_decided_the_same_way_every_time() -> None:
    choices = [Choice("b", 0.5), Choice("a", 0.5), Choice("c", 0.5, reversible=False), Choice("d", 0.6, cost=0.1)]
    expected = ["a", "b", "d", "c", NOTHING]
    assert [choice.solution for choice in rank_choices(choices)] == expected
    assert [choice.solution for choice in rank_choices(reversed(choices))] == expected


def test_the_first_attempt_is_cheap_and_the_second_time_what_worked_comes_first() -> None:
    def first(*records: Record) -> str:
        choices = [
            Choice("restart", probability(*records, solution="restart"), cost=0.05),
            Choice("rollback", probability(*records, solution="rollback"), cost=0.1),
        ]
        return rank_choices(choices)[0].solution

    assert first() == "restart"
    assert first(record(0, 1), record(1, 1, solution="rollback")) == "rollback"


def test_rankings_are_fused_by_rank_alone() -> None:
    assert [name for name, _ in fuse_rankings([["a", "b", "c"], ["b", "c", "a"]])] == ["b", "a", "c"]
    [(name, score)] = fuse_rankings([["a"], ["a", "a"]])
    assert name == "a"
    assert score == pytest.approx(2 / 61)
    assert fuse_rankings([]) == []


def test_equal_scores_are_fused_in_order_of_name_and_weights_decide() -> None:
    assert [name for name, _ in fuse_rankings([["b"], ["a"]])] == ["a", "b"]
    assert [name for name, _ in fuse_rankings([["b"], ["a"]], weights=[2, 1])] == ["b", "a"]
    assert math.isclose(fuse_rankings([["b"]], weights=[2])[0][1], 2 / 61)
    with pytest.raises(ValueError, match="found 1 weights for 2 rankings"):
        fuse_rankings([[], []], weights=[1])
