"""Results before a window closes: each replaces the one before it, and the last one is final."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tables.aggregates import Count
from tables.table import Table
from tables.windowed import WindowedTable
from tables.windows import Hopping, Sliding, Tumbling, Window, seconds
from topology.errors import ConfigurationError
from topology.state import ClosedWindow

S = 1_000_000


def counting(early: timedelta | int, window: Window | None = None, **more: Any) -> WindowedTable[int, int]:
    bound = Table("counts", window=window or Tumbling(seconds(60)), value=Count, early=early, **more).bind()
    assert isinstance(bound, WindowedTable)
    return bound


def said(closed: list[ClosedWindow]) -> list[tuple[str, int, Any, bool, int]]:
    return [(one.key, one.end_us // S, one.value, one.final, one.revision) for one in closed]


def test_a_window_says_its_value_whenever_the_watermark_passes_the_duration_and_at_last_the_final_one() -> None:
    bound = counting(seconds(10))
    found = []
    for at in (1, 2, 11, 12, 35, 61):
        bound.add("web", at * S)
        found += bound.advance(at * S)
    assert said(found) == [
        ("web", 60, 1, False, 0),
        ("web", 60, 3, False, 1),
        ("web", 60, 5, False, 2),
        ("web", 60, 5, True, 3),
        ("web", 120, 1, False, 0),
    ]


def test_a_window_without_news_is_not_said_again() -> None:
    bound = counting(seconds(10))
    bound.add("web", S)
    assert len(bound.advance(10 * S)) == 1
    assert bound.advance(20 * S) == []
    assert said(bound.advance(60 * S)) == [("web", 60, 1, True, 1)]


def test_a_window_says_its_value_after_so_many_entries() -> None:
    bound = counting(3)
    found = []
    for at in range(7):
        bound.add("web", at * S)
        found += bound.advance(at * S)
    assert said(found) == [("web", 60, 3, False, 0), ("web", 60, 6, False, 1)]


def test_what_is_due_without_any_passing_of_time_is_said_with_the_next_advance() -> None:
    bound = counting(2)
    bound.advance(5 * S)
    bound.add("web", S)
    bound.add("web", S)
    assert said(bound.advance(5 * S)) == [("web", 60, 2, False, 0)]


def test_a_window_that_never_gave_an_early_result_is_final_at_once() -> None:
    bound = counting(100)
    bound.add("web", S)
    assert bound.advance(60 * S) == [ClosedWindow("counts", "web", 0, 60 * S, 1)]


def test_without_early_results_every_result_is_final() -> None:
    assert (ClosedWindow("t", "k", 0, 1, 2).final, ClosedWindow("t", "k", 0, 1, 2).revision) == (True, 0)


def test_hopping_windows_give_a_result_each() -> None:
    bound = counting(seconds(10), Hopping(seconds(20), seconds(10)))
    bound.add("web", 11 * S)
    assert said(bound.advance(11 * S)) == [("web", 20, 1, False, 0), ("web", 30, 1, False, 0)]
    bound.add("web", 12 * S)
    assert said(bound.advance(20 * S)) == [("web", 20, 2, True, 1), ("web", 30, 2, False, 1)]


def test_results_go_on_after_a_restart_where_they_were() -> None:
    before = counting(2)
    for at in (1, 2, 3):
        before.add("web", at * S)
        before.advance(at * S)
    assert before.snapshot()["early|60000000|web"] == b"1 1"
    after = counting(2)
    after.restore(before.snapshot())
    assert after.changes() == {}
    after.add("web", 4 * S)
    assert said(after.advance(4 * S)) == [("web", 60, 4, False, 1)]


def test_closed_windows_and_evicted_keys_leave_no_early_rows() -> None:
    bound = counting(seconds(10), keys_max=1)
    bound.add("a", S)
    bound.advance(S)
    bound.add("b", 2 * S)
    assert bound.changes()["early|60000000|a"] is None
    bound.advance(60 * S)
    assert bound.snapshot() == {"closed": b"60000000", "early": b"60000000"}


@pytest.mark.parametrize(
    ("window", "early", "message"),
    [
        (None, 5, "no windows that close"),
        (Sliding(seconds(60)), seconds(5), "no windows that close"),
        (Tumbling(seconds(60)), 0, "early=0; expected"),
        (Tumbling(seconds(60)), timedelta(0), "expected a duration longer than nothing"),
    ],
)
def test_early_results_that_cannot_be_are_refused(window: Window | None, early: int | timedelta, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Table("t", window=window, value=Count, early=early)
