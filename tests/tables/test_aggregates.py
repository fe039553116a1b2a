"""What is computed over entries, and how an accumulator survives as a row."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tables.aggregates import Aggregate, Count, Fold, Last, Max, Mean, Min, Rate, Sum, made
from topology.errors import ConfigurationError, PoisonedEventError

S = 1_000_000


def value_of(aggregate: Aggregate[Any, Any, Any], *amounts: Any) -> Any:
    accumulated = aggregate.initial()
    for at_us, amount in enumerate(amounts):
        accumulated = aggregate.add(accumulated, amount, at_us)
    return aggregate.value(aggregate.decode(aggregate.encode(accumulated)), 60 * S)


def test_each_aggregate_computes_what_it_is_called() -> None:
    assert value_of(Count(), 1, 1, 3) == 5
    assert value_of(Sum(), 1.5, 2, -1) == 2.5
    assert value_of(Min(), 3, 1, 2) == 1
    assert value_of(Max(), 3, 1, 2) == 3
    assert value_of(Mean(), 1, 2, 6) == 3
    assert value_of(Rate(), 60, 60) == 2
    assert value_of(Last(), "a", {"b": [1, None]}) == {"b": [1, None]}


def test_nothing_has_a_count_and_a_sum_but_no_mean_and_no_extremes() -> None:
    assert (value_of(Count()), value_of(Sum()), value_of(Rate())) == (0, 0, 0)
    assert [value_of(kind) for kind in (Min(), Max(), Mean(), Last())] == [None] * 4


def test_the_last_amount_is_the_one_that_happened_last_not_the_one_that_came_last() -> None:
    last = Last()
    accumulated = last.add(last.add(last.initial(), "new", 20), "old", 10)
    assert last.value(accumulated, 0) == "new"


def test_of_two_amounts_at_one_instant_the_one_that_came_later_is_the_last() -> None:
    last = Last()
    assert last.value(last.add(last.add(last.initial(), "first", 10), "second", 10), 0) == "second"


def test_whole_numbers_stay_exact_however_large() -> None:
    assert value_of(Sum(), 2**70, 1) == 2**70 + 1


def test_floats_read_back_as_the_same_float() -> None:
    assert value_of(Sum(), 0.1, 0.2) == 0.1 + 0.2
    assert value_of(Max(), 1e-300) == 1e-300


def test_rows_can_be_read_by_people() -> None:
    assert Count().encode(3) == b"3"
    assert Mean().encode((2, 5.5)) == b"2 5.5"
    assert Last().encode((7, "up")) == b'[7,"up"]'


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [Sum, Min, Max, Mean, Rate])
def test_an_amount_that_is_no_finite_number_is_refused(kind: type[Aggregate[Any, Any, Any]], amount: float) -> None:
    with pytest.raises(PoisonedEventError, match="expected a finite number"):
        value_of(kind(), 1, amount)


def test_a_fold_computes_whatever_its_functions_say() -> None:
    words = Fold[str, list[str]](list, lambda seen, word: sorted({*seen, word}), lambda a, b: sorted({*a, *b}))
    assert value_of(words, "b", "a", "b") == ["a", "b"]
    assert words.merge(["a"], ["b"]) == ["a", "b"]


def test_a_class_stands_for_its_default_instance() -> None:
    assert isinstance(made(Count), Count)
    with pytest.raises(ConfigurationError, match="expected an aggregate"):
        made(int)
