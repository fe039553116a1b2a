"""Laws of what is computed over texts, values and experience."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tables.embedding import embed, similarity
from tables.fingerprint import Evidence, fingerprint, template_of
from tables.ranking import (
    NOTHING,
    Choice,
    Record,
    Tally,
    fuse_rankings,
    rank_choices,
    success_probability,
    wilson_lower_bound,
)
from tables.stack_trace import parse_stack_trace
from tables.surprise import SURPRISE_MAX, Surprise

# Texts made of what the masks look for, so that their borders are met often.
telling = st.lists(
    st.sampled_from(
        ["'", '"', "`", "1", "a", "ff", ":", "::", ".", "-", "0x", " ", "\n", "/", "status ", "=", "é", "<", ">", "\\"]
    )
).map("".join)
texts = st.one_of(st.text(), telling)
shares = st.floats(0, 1)
values = st.floats(-1e12, 1e12)


@given(texts)
def test_every_text_has_a_unit_vector_that_is_nearest_to_itself(text: str) -> None:
    vector = embed(text)
    assert math.isclose(similarity(vector, vector), 1.0, rel_tol=1e-9)
    assert vector == embed(text)


@given(texts)
def test_masking_a_template_again_changes_nothing(text: str) -> None:
    assert template_of(template_of(text)) == template_of(text)


@given(texts, st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_number_between_blanks_never_tells_messages_apart(text: str, one: int, other: int) -> None:
    assert template_of(f"took {one} ms {text}") == template_of(f"took {other} ms {text}")


@given(texts, texts)
def test_any_log_line_has_a_fingerprint_and_equal_lines_an_equal_one(text: str, service: str) -> None:
    parse_stack_trace(text)
    evidence = Evidence(stack=text, symptom="log.errors", service=service)
    assert fingerprint(evidence) == fingerprint(evidence)


@given(st.lists(values, max_size=120), values)
def test_surprise_is_bounded_causal_and_larger_further_out(history: list[float], value: float) -> None:
    surprise = Surprise(history=40, warm_up=16)
    scores = [surprise.update(known) for known in history]
    assert all(0.0 <= score <= SURPRISE_MAX for score in scores)
    again = Surprise(history=40, warm_up=16)
    assert [again.update(known) for known in history[:60]] == scores[:60]
    highest = max(history[-40:], default=0.0)
    further = max(value, highest) + 1.0
    assert surprise.score(further) <= surprise.score(further + abs(further))


@given(st.lists(values, max_size=120), st.integers(0, 120))
def test_a_restart_changes_no_surprise(history: list[float], cut: int) -> None:
    whole, before, after = (Surprise(history=30, warm_up=16) for _ in range(3))
    expected = [whole.update(value) for value in history]
    scores = [before.update(value) for value in history[:cut]]
    after.restore(before.snapshot())
    assert scores + [after.update(value) for value in history[cut:]] == expected


tallies = st.integers(0, 50).flatmap(lambda n: st.integers(0, n).map(lambda s: Tally(s, n)))


@given(tallies)
def test_the_gate_is_below_the_rate_and_opens_further_with_success(tally: Tally) -> None:
    bound = wilson_lower_bound(tally)
    assert 0.0 <= bound <= (tally.successes / tally.trials if tally.trials else 0.0) + 1e-12
    assert wilson_lower_bound(tally | Tally(1, 1)) > bound


records = st.lists(
    st.builds(
        Record,
        problem=st.sampled_from("pq"),
        solution=st.sampled_from(["s", NOTHING]),
        target=st.sampled_from("tu"),
        environment=st.sampled_from("de"),
        tally=tallies,
        similarity=shares,
    ),
    max_size=8,
)


@given(records, st.sampled_from(["s", NOTHING]))
def test_a_probability_lies_between_never_and_always_and_success_raises_it(found: list[Record], solution: str) -> None:
    def probability(known: list[Record]) -> float:
        return success_probability(known, solution=solution, problem="p", target="t", environment="d")

    before = probability(found)
    assert 0.0 < before < 1.0
    assert probability([*found, Record("p", solution, "t", "d", Tally(1, 1))]) > before
    assert probability([*found, Record("p", solution, "t", "d", Tally(0, 1))]) < before
    assert math.isclose(probability(list(reversed(found))), before)


choices = st.lists(
    st.builds(Choice, st.sampled_from("abcdef"), shares, shares, shares, shares, st.booleans()),
    unique_by=lambda choice: choice.solution,
)


@given(choices)
def test_ranking_keeps_every_choice_adds_nothing_and_never_prefers_the_less_useful(found: list[Choice]) -> None:
    ranked = rank_choices(found)
    assert {choice.solution for choice in ranked} == {choice.solution for choice in found} | {NOTHING}
    utilities = [choice.utility() for choice in ranked]
    assert utilities == sorted(utilities, reverse=True)
    assert rank_choices(list(reversed(found))) == ranked


@given(st.lists(st.lists(st.sampled_from("abcde"), unique=True), min_size=1))
def test_what_leads_every_ranking_leads_the_fused_one(rankings: list[list[str]]) -> None:
    led = [["best", *ranking] for ranking in rankings]
    assert fuse_rankings(led)[0][0] == "best"
    assert {name for name, _ in fuse_rankings(rankings)} == {name for ranking in rankings for name in ranking}
