"""How event time is cut: spans aligned to the epoch, and windows that refuse to lie about their size."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tables.windows import Hopping, Sliding, Span, Tumbling, hours, minutes, seconds
from topology.errors import ConfigurationError

S = 1_000_000


def test_a_tumbling_window_starts_at_a_multiple_of_its_size_since_the_epoch() -> None:
    assert Tumbling(minutes(1)).spans_of(119 * S) == (Span(60 * S, 120 * S),)


def test_the_end_of_a_span_belongs_to_the_next_one() -> None:
    assert Tumbling(minutes(1)).spans_of(120 * S) == (Span(120 * S, 180 * S),)


def test_instants_before_the_epoch_have_windows_too() -> None:
    assert Tumbling(minutes(1)).spans_of(-1) == (Span(-60 * S, 0),)


def test_a_hopping_window_starts_at_every_step_and_the_one_that_ends_first_comes_first() -> None:
    assert Hopping(seconds(30), seconds(10)).spans_of(35 * S) == (
        Span(10 * S, 40 * S),
        Span(20 * S, 50 * S),
        Span(30 * S, 60 * S),
    )


def test_fractions_of_a_second_are_cut_as_exactly_as_hours() -> None:
    assert len(Hopping(seconds(5), seconds(0.5)).spans_of(12_345_678)) == 10
    assert len(Hopping(seconds(5), seconds(2.5)).spans_of(12_345_678)) == 2
    assert Hopping(hours(1), minutes(30)).pane_us == 1800 * S


def test_a_sliding_window_looks_back_from_the_pane_of_the_instant() -> None:
    assert Sliding(minutes(10)).pane_us == 10 * S
    assert Sliding(minutes(10)).spans_of(605 * S) == (Span(10 * S, 610 * S),)


def test_a_sliding_window_of_one_microsecond_panes_is_exact() -> None:
    window = Sliding(seconds(1), resolution=timedelta(microseconds=1))
    assert window.spans_of(5 * S) == (Span(4 * S + 1, 5 * S + 1),)


def test_a_sliding_window_finds_a_pane_that_divides_its_size() -> None:
    assert Sliding(timedelta(microseconds=7)).pane_us == 1
    assert Sliding(timedelta(microseconds=61)).pane_us == 61  # a prime: nothing finer divides it


@pytest.mark.parametrize("size", [timedelta(0), timedelta(seconds=-1)])
def test_a_window_of_no_length_is_refused(size: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="expected a duration longer than nothing"):
        Tumbling(size)


def test_a_step_that_does_not_divide_the_size_is_refused_and_never_rounded() -> None:
    with pytest.raises(ConfigurationError, match=r"step=0:00:03 does not divide size=0:00:10 .*0:00:01"):
        Hopping(seconds(10), seconds(3))
    with pytest.raises(ConfigurationError, match="does not divide"):
        Hopping(seconds(10), seconds(20))
    with pytest.raises(ConfigurationError, match="longer than nothing"):
        Hopping(seconds(10), seconds(0))


def test_a_resolution_that_does_not_divide_the_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="resolution"):
        Sliding(seconds(10), resolution=seconds(3))
    with pytest.raises(ConfigurationError, match="resolution"):
        Sliding(seconds(10), resolution=seconds(0))
