"""Sketches: what they promise, and that a row brings them back as they were."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tables.aggregates import Aggregate
from tables.distinct import EXACT_MAX, Distinct
from tables.frequent import Frequent, Top
from tables.quantiles import Quantile, Quantiles
from topology.errors import ConfigurationError, PoisonedEventError


def sketch_of(aggregate: Aggregate[Any, Any, Any], amounts: list[Any]) -> Any:
    accumulated = aggregate.initial()
    for amount in amounts:
        accumulated = aggregate.add(accumulated, amount, 0)
    return accumulated


def value_of(aggregate: Aggregate[Any, Any, Any], amounts: list[Any]) -> Any:
    return aggregate.value(aggregate.decode(aggregate.encode(sketch_of(aggregate, amounts))), 0)


def exact_quantile(amounts: list[float], rank: float) -> float:
    return sorted(amounts)[math.floor(rank * (len(amounts) - 1))]


@pytest.mark.parametrize("error", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("rank", [0.0, 0.25, 0.5, 0.95, 0.99, 1.0])
def test_a_quantile_is_within_its_error_for_a_long_tailed_latency(rank: float, error: float) -> None:
    dice = random.Random(7)
    amounts = [dice.lognormvariate(3, 2) for _ in range(5_000)]
    found = value_of(Quantile(rank, error=error), amounts)
    assert found == pytest.approx(exact_quantile(amounts, rank), rel=error + 1e-9)


def test_the_smallest_and_the_largest_amount_are_exact() -> None:
    amounts = [3.7, -12.25, 0.0, 99.125]
    assert value_of(Quantiles(0, 1), amounts) == (-12.25, 99.125)


def test_several_quantiles_come_from_one_sketch() -> None:
    assert value_of(Quantiles(0.5, 0.0), [5.0] * 9) == (5.0, 5.0)


def test_nothing_has_no_quantile() -> None:
    assert value_of(Quantile(0.5), []) is None
    assert value_of(Quantiles(0.5), []) is None


def test_the_largest_and_the_smallest_numbers_there_are_can_be_counted() -> None:
    assert value_of(Quantile(0.5), [1.7976931348623157e308] * 3) == 1.7976931348623157e308
    assert value_of(Quantile(0.5), [5e-324] * 3) == 5e-324


def test_a_quantile_takes_no_more_bins_than_its_limit_and_keeps_the_large_magnitudes() -> None:
    quantile = Quantile(0.97)
    amounts = [10.0 ** (power / 50) for power in range(-14_000, 14_000)]
    sketch = sketch_of(quantile, amounts)
    quantile.encode(sketch)
    assert len(sketch.above) <= 2_000
    assert value_of(quantile, amounts) == pytest.approx(exact_quantile(amounts, 0.97), rel=0.01)


@pytest.mark.parametrize(
    "wrong", [lambda: Quantile(1.5), lambda: Quantile(0.5, error=0), lambda: Quantiles(), lambda: Top(5, counters=4)]
)
def test_what_a_sketch_cannot_promise_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        wrong()


def test_an_amount_that_is_no_finite_number_has_no_bin() -> None:
    with pytest.raises(PoisonedEventError, match="finite"):
        sketch_of(Quantile(0.5), [math.nan])


def test_few_different_things_are_counted_exactly() -> None:
    items = [f"user-{number % EXACT_MAX}" for number in range(5_000)]
    assert value_of(Distinct(), items) == EXACT_MAX


def test_text_and_numbers_that_look_alike_are_different() -> None:
    assert value_of(Distinct(), ["1", 1, 1.5, None, True, {"a": 1, "b": 2}, {"b": 2, "a": 1}]) == 6


@pytest.mark.parametrize("count", [257, 1_000, 10_000, 100_000])
def test_many_different_things_are_counted_to_within_three_standard_errors(count: int) -> None:
    assert value_of(Distinct(), [f"user-{number}" for number in range(count)]) == pytest.approx(count, rel=0.049)


def test_estimates_are_right_on_average() -> None:
    found = [value_of(Distinct(), [f"{run}/{number}" for number in range(3_000)]) for run in range(30)]
    assert sum(found) / 30 == pytest.approx(3_000, rel=0.012)


def test_a_distinct_count_takes_four_kilobytes_at_most() -> None:
    sketch = sketch_of(Distinct(), list(range(20_000)))
    assert len(sketch.registers) == 4096
    assert len(Distinct().encode(sketch)) < 4096
    assert len(sketch.hashes) == 0


def test_what_json_cannot_say_cannot_be_told_apart() -> None:
    with pytest.raises(PoisonedEventError, match="JSON can say"):
        sketch_of(Distinct(), [object()])


def test_few_different_items_are_counted_exactly_and_ranked() -> None:
    assert value_of(Top(2), list("abcabcaccbz")) == (Frequent("c", 4, 4), Frequent("a", 3, 3))


def test_the_frequent_ones_are_found_among_many_rare_ones() -> None:
    items = [item for number in range(2_000) for item in ("often", f"rare-{number}", "often", f"seldom-{number % 500}")]
    [first] = value_of(Top(1), items)
    assert first.item == "often"
    assert first.at_least <= 4_000 <= first.at_most
    assert first.at_most - first.at_least <= len(items) / 11


def test_a_summary_takes_no_more_counters_than_it_was_given() -> None:
    assert len(sketch_of(Top(3, counters=7), [str(number % 100) for number in range(1_000)]).counters) <= 7


def test_an_item_that_is_no_text_is_refused() -> None:
    with pytest.raises(PoisonedEventError, match="expected text"):
        sketch_of(Top(1), [7])


def test_rows_of_sketches_are_the_same_in_every_process() -> None:
    assert Quantile(0.5).encode(sketch_of(Quantile(0.5), [3, 1, -1, 0])) == b"[1,-1,3,[0],[1],[0,55],[1,1]]"
    assert Distinct().encode(sketch_of(Distinct(), ["a"])) == b"[1616797661514831016]"
    assert Top(1).encode(sketch_of(Top(1), ["b", "a"])) == b'[0,{"a":1,"b":1}]'
