"""Laws of sketches: how entries are split over panes and merged changes nothing beyond what they promise."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.aggregates import Aggregate
from tables.distinct import Distinct
from tables.frequent import Top
from tables.quantiles import Quantiles

RANKS = (0.0, 0.1, 0.5, 0.9, 1.0)
magnitudes = st.one_of(st.floats(1e-6, 1e9), st.integers(1, 50).map(float))
amounts = st.lists(st.one_of(magnitudes, magnitudes.map(lambda amount: -amount), st.just(0.0)), max_size=60)
items = st.lists(st.sampled_from("aaaaabbbccdefghijkl"), max_size=80)
cuts = st.lists(st.integers(0, 80), max_size=4)


def sketched(aggregate: Aggregate[Any, Any, Any], given_amounts: list[Any]) -> Any:
    accumulated = aggregate.initial()
    for amount in given_amounts:
        accumulated = aggregate.add(accumulated, amount, 0)
    return accumulated


def merged(aggregate: Aggregate[Any, Any, Any], given_amounts: list[Any], at: list[int]) -> Any:
    bounds = [0, *sorted(min(cut, len(given_amounts)) for cut in at), len(given_amounts)]
    whole = aggregate.initial()
    for start, end in pairwise(bounds):
        part = sketched(aggregate, given_amounts[start:end])
        before = aggregate.encode(part), aggregate.encode(whole)
        both = aggregate.merge(whole, part)
        assert (aggregate.encode(part), aggregate.encode(whole)) == before, "a merge leaves its arguments as they were"
        whole = both
    return whole


@given(amounts, cuts, st.sampled_from([0.01, 0.1]))
def test_quantiles_are_within_their_error_of_what_sorting_finds(
    given_amounts: list[float], at: list[int], error: float
) -> None:
    aggregate = Quantiles(*RANKS, error=error)
    found = aggregate.value(merged(aggregate, given_amounts, at), 0)
    if not given_amounts:
        assert found is None
        return
    assert found is not None
    in_order = sorted(given_amounts)
    for rank, value in zip(RANKS, found, strict=True):
        assert value == pytest.approx(in_order[math.floor(rank * (len(in_order) - 1))], rel=error + 1e-9, abs=0)


@given(amounts, cuts)
def test_quantiles_and_distinct_counts_do_not_depend_on_how_entries_are_split(
    given_amounts: list[float], at: list[int]
) -> None:
    for aggregate in (Quantiles(*RANKS), Distinct()):
        assert merged(aggregate, given_amounts, at) == sketched(aggregate, given_amounts)


@given(st.lists(st.integers(0, 700), max_size=30), st.lists(st.integers(0, 700), max_size=30))
def test_distinct_counts_of_large_and_small_parts_do_not_depend_on_their_order(
    left: list[int], right: list[int]
) -> None:
    aggregate = Distinct()
    large = [*range(240), *left]
    one, other = sketched(aggregate, large), sketched(aggregate, [-1 - number for number in right])
    assert aggregate.merge(one, other) == aggregate.merge(other, one)
    assert aggregate.merge(one, other) == sketched(aggregate, [*large, *(-1 - number for number in right)])


@given(items, cuts, st.integers(1, 3), st.integers(0, 4))
def test_frequent_items_keep_their_promises_over_all_merges(
    given_items: list[str], at: list[int], places: int, more: int
) -> None:
    aggregate = Top(places, counters=places + more)
    sketch = merged(aggregate, given_items, at)
    true, bound = Counter(given_items), len(given_items) / (places + more + 1)
    assert sketch.lowered <= bound
    for item, at_least, at_most in aggregate.value(sketch, 0):
        assert at_least <= true[item] <= at_most
    assert all(item in sketch.counters for item, count in true.items() if count > bound)
    if len(true) <= places + more:
        exact = sorted(true.items(), key=lambda pair: (-pair[1], pair[0]))[:places]
        assert [(one.item, one.at_least) for one in aggregate.value(sketch, 0)] == exact


@given(amounts, amounts)
def test_a_sketch_goes_on_after_a_restart_as_if_there_had_been_none(before: list[float], after: list[float]) -> None:
    for aggregate in (Quantiles(*RANKS), Distinct(), Top(2, counters=3)):
        kind: Aggregate[Any, Any, Any] = aggregate
        texts = isinstance(kind, Top)
        first, then = ([str(one) for one in part] if texts else part for part in (before, after))
        whole = sketched(kind, [*first, *then])
        restored = kind.decode(kind.encode(sketched(kind, first)))
        for amount in then:
            restored = kind.add(restored, amount, 0)
        assert kind.encode(restored) == kind.encode(whole)
        assert restored == whole
