"""Streaming surprise; the first tests are bugs met while the method was found."""

from __future__ import annotations

import json
import math
import random

import pytest

from tables.surprise import SURPRISE_MAX, Surprise
from topology.errors import ConfigurationError


def noise(count: int, seed: int = 1) -> list[float]:
    dice = random.Random(seed)
    return [dice.gauss(50.0, 5.0) for _ in range(count)]


def learned(values: list[float], *, scale_min: float = 0.0) -> Surprise:
    surprise = Surprise(scale_min=scale_min)
    for value in values:
        surprise.update(value)
    return surprise


@pytest.mark.parametrize("level", [0.0, 5.0, -1e9, 0.1])
def test_a_flat_series_is_never_surprising(level: float) -> None:
    surprise = Surprise()
    assert {surprise.update(level) for _ in range(2000)} == {0.0}


def test_a_series_of_two_values_is_never_very_surprising() -> None:
    surprise = Surprise()
    assert max(surprise.update(float(n % 2)) for n in range(2000)) < 0.5


def test_rounding_noise_on_a_flat_series_is_not_a_surprise() -> None:
    surprise = learned([1e6] * 200)
    assert surprise.score(math.nextafter(1e6, 2e6)) < 2.5


def test_a_value_far_out_is_surprising_on_both_sides_and_the_more_the_further() -> None:
    surprise = learned(noise(1000))
    assert surprise.score(50.0) < 0.5
    assert 3 < surprise.score(75.0) < surprise.score(85.0) < surprise.score(95.0)
    assert 3 < surprise.score(25.0) < surprise.score(15.0) < surprise.score(5.0)


def test_false_alarms_are_about_as_rare_as_the_score_says() -> None:
    surprise = Surprise()
    scores = [surprise.update(value) for value in noise(20_000)]
    assert sum(score >= 2 for score in scores) < 600
    assert sum(score >= 4 for score in scores) < 30


def test_nothing_is_more_surprising_than_the_limit() -> None:
    assert learned(noise(100)).score(1e300) == SURPRISE_MAX
    assert learned([0.0] * 100).score(1e-9) == SURPRISE_MAX


def test_differences_that_do_not_matter_are_no_surprise() -> None:
    assert learned([41.2] * 100, scale_min=1.0).score(41.3) < 2


def test_a_tail_that_lies_apart_is_taken_to_be_wide() -> None:
    assert learned([*[float(n % 7) for n in range(93)], *[16.0] * 7]).score(26.0) < 1.8


def test_nothing_is_scored_before_enough_is_known() -> None:
    surprise = Surprise(warm_up=30)
    assert {surprise.update(value) for value in [*noise(29), 1e9]} == {0.0}
    assert surprise.usual is not None


def test_a_level_that_stays_becomes_usual() -> None:
    surprise = learned(noise(500))
    scores = [surprise.update(value + 100) for value in noise(500, seed=2)]
    assert scores[0] > 6
    assert max(scores[-100:]) < 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_left_out(value: float) -> None:
    surprise = learned(noise(100))
    before = surprise.snapshot()
    assert surprise.update(value) == 0.0
    assert surprise.snapshot() == before


def test_scoring_alone_teaches_nothing() -> None:
    surprise = learned(noise(100))
    before = surprise.snapshot()
    surprise.score(1000.0)
    assert surprise.snapshot() == before


def test_a_restart_changes_no_score() -> None:
    values = noise(1200)
    whole = Surprise(history=300)
    before, after = Surprise(history=300), Surprise(history=300)
    expected = [whole.update(value) for value in values]
    scores = [before.update(value) for value in values[:700]]
    after.restore(json.loads(json.dumps(before.snapshot())))
    scores += [after.update(value) for value in values[700:]]
    assert scores == expected


def test_memory_is_bounded() -> None:
    surprise = Surprise(history=100)
    for value in noise(5000):
        surprise.update(value)
    assert len(surprise.snapshot()["history"]) == 1068  # 100 floats in base64


def test_the_usual_range_holds_most_values() -> None:
    values = noise(500)
    usual = learned(values).usual
    assert usual is not None
    low, high = usual
    assert 35 < low < high < 65
    assert Surprise().usual is None


@pytest.mark.parametrize("arguments", [{"warm_up": 5}, {"history": 20}, {"scale_min": -1.0}, {"scale_min": math.nan}])
def test_settings_that_cannot_work_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        Surprise(**arguments)  # type: ignore[arg-type]  # one of several keywords of different types
