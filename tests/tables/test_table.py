"""Tables as agents use them; most of these are bugs other engines have had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tables.aggregates import Aggregate, Count, Max, Mean, Rate, Sum
from tables.table import Table
from tables.windowed import WindowedTable
from tables.windows import Hopping, Sliding, Tumbling, Window, minutes, seconds
from topology.errors import ConfigurationError, PoisonedEventError
from topology.state import ClosedWindow, LateEntry

S = 1_000_000
NOON_2021 = 1_609_502_400 * S


@dataclass(frozen=True)
class Line:
    service: str | None
    labels: Any = None


@dataclass(frozen=True)
class Happening:
    payload: Line
    at_us: int = 0


class Watcher:
    """Stands where an agent stands: its running state is bound under ``_tables``."""

    counts = Table("counts", window=Tumbling(seconds(10)), value=Count)

    def __init__(self) -> None:
        self._tables: Mapping[str, Any] = {"counts": type(self).counts.bind()}


def paned(window: Window, value: Aggregate[Any, Any, Any] | None = None, **more: Any) -> WindowedTable[Any, Any]:
    bound = Table("counts", window=window, value=value or Count(), **more).bind()
    assert isinstance(bound, WindowedTable)
    return bound


def test_an_agent_finds_its_running_state_under_the_attribute_it_declared() -> None:
    watcher = Watcher()
    assert watcher.counts.add(Happening(Line("web"), 3 * S)) == 1
    assert watcher.counts.add("web", 4 * S) == 2
    assert watcher.counts[Happening(Line("web"), 9 * S)] == 2
    assert watcher.counts["web", 10 * S] == 0
    assert Watcher.counts.name == "counts"


def test_an_agent_that_was_never_bound_says_what_is_missing() -> None:
    unbound = Watcher.__new__(Watcher)
    with pytest.raises(ConfigurationError, match="Watcher has no running state for 'counts'"):
        _ = unbound.counts


def test_keys_are_told_apart_by_a_field_or_a_path_of_fields() -> None:
    bound = Table("t", key="labels.service", value=Count).bind()
    assert bound.add(Happening(Line("x", labels=Line("a")))) == 1
    assert bound["a"] == 1


@pytest.mark.parametrize("payload", [Line(None), Line("x", labels=7)])
def test_an_event_without_the_key_is_poison_and_the_message_tells_what_to_do(payload: Line) -> None:
    bound = Table("t", key="labels.service" if payload.labels else "service", value=Count).bind()
    with pytest.raises(PoisonedEventError, match=r"table 't' is keyed by .* this Line has None there"):
        bound.add(Happening(payload))


def test_windows_close_when_the_watermark_reaches_their_end_in_order_of_end_and_key() -> None:
    bound = paned(Tumbling(seconds(10)))
    for key, at in (("b", 15), ("a", 15), ("b", 5), ("a", 25)):
        bound.add(key, at * S)
    assert bound.advance(20 * S - 1) == [ClosedWindow("counts", "b", 0, 10 * S, 1)]
    assert bound.advance(20 * S) == [
        ClosedWindow("counts", "a", 10 * S, 20 * S, 1),
        ClosedWindow("counts", "b", 10 * S, 20 * S, 1),
    ]
    assert bound.advance(20 * S) == []


def test_old_recordings_close_like_today_because_no_clock_is_asked() -> None:
    bound = paned(Tumbling(seconds(10)))
    closed = []
    for at in range(25):
        bound.add("web", NOON_2021 + at * S)
        closed += bound.advance(NOON_2021 + at * S)
    closed += bound.advance(NOON_2021 + 60 * S)
    assert [window.value for window in closed] == [10, 10, 5]


def test_all_keys_of_one_window_are_closed_not_only_the_first() -> None:
    bound = paned(Tumbling(seconds(10)))
    for number in range(8):
        bound.add(f"service-{number}", S)
    assert len(bound.advance(10 * S)) == 8


def test_windows_restored_from_rows_close_too() -> None:
    before = paned(Tumbling(seconds(10)))
    for at in range(5):
        before.add("web", at * 10 * S)
    after = paned(Tumbling(seconds(10)))
    after.restore(before.snapshot())
    assert len(after.advance(50 * S)) == 5
    assert after.snapshot() == {"closed": b"50000000"}


def test_memory_grows_with_open_windows_not_with_events() -> None:
    bound = paned(Hopping(seconds(50), seconds(10)))
    for at in range(500):
        bound.add("web", at * S // 10)
    assert len(bound.snapshot()) == 5
    assert len(bound.changes()) == 5


def test_closed_windows_leave_one_row_behind_for_all_of_them() -> None:
    bound = paned(Sliding(seconds(60)))
    for at in range(0, 10_000, 7):
        bound.add(f"service-{at}", at * S)
        bound.advance(at * S)
    bound.advance(20_000 * S)
    assert bound.snapshot() == {"closed": b"20000000000"}
    assert bound.keys() == []


def test_a_late_entry_is_reported_and_does_not_bring_its_window_back() -> None:
    bound = paned(Tumbling(seconds(10)))
    bound.add("web", 5 * S)
    bound.advance(10 * S)
    assert bound.add("web", 6 * S) == 0
    assert bound.take_late() == [LateEntry("counts", "web", 6 * S)]
    assert bound.take_late() == []
    assert bound.advance(100 * S) == []


def test_a_window_nobody_wrote_to_is_closed_as_well() -> None:
    bound = paned(Tumbling(seconds(10)))
    bound.advance(10 * S)
    bound.add("web", 5 * S)
    assert len(bound.take_late()) == 1
    assert bound.advance(100 * S) == []


def test_what_was_late_before_a_restart_is_late_after_it() -> None:
    before = paned(Tumbling(seconds(10)))
    before.add("web", 5 * S)
    before.advance(10 * S)
    after = paned(Tumbling(seconds(10)))
    after.restore(before.snapshot())
    after.add("web", 5 * S)
    assert len(after.take_late()) == 1


def test_the_tables_own_lateness_keeps_its_windows_open_for_longer() -> None:
    bound = paned(Tumbling(seconds(10)), lateness=seconds(5))
    bound.add("web", 5 * S)
    assert bound.advance(14 * S) == []
    assert bound.add("web", 6 * S) == 2
    assert [window.value for window in bound.advance(15 * S)] == [2]


def test_an_older_watermark_changes_nothing() -> None:
    bound = paned(Tumbling(seconds(10)))
    bound.advance(20 * S)
    bound.add("web", 25 * S)
    assert bound.advance(5 * S) == []
    bound.add("web", 15 * S)
    assert len(bound.take_late()) == 1


def test_an_entry_late_for_one_hopping_window_still_counts_in_the_others() -> None:
    bound = paned(Hopping(seconds(20), seconds(10)))
    bound.advance(10 * S)
    assert bound.add("web", 5 * S) == 1
    assert bound.take_late() == [LateEntry("counts", "web", 5 * S)]
    assert bound.advance(50 * S) == [ClosedWindow("counts", "web", 0, 20 * S, 1)]


def test_a_hopping_window_reports_the_window_that_has_seen_most() -> None:
    bound = paned(Hopping(seconds(20), seconds(10)))
    bound.add("web", 5 * S)
    assert bound.add("web", 15 * S) == 2
    assert [(window.start_us, window.value) for window in bound.advance(40 * S)] == [(-10 * S, 1), (0, 2), (10 * S, 1)]


def test_a_sliding_value_counts_what_happened_in_the_last_ten_minutes() -> None:
    bound = paned(Sliding(minutes(10)))
    assert [bound.add("web", at * 60 * S) for at in (0, 4, 9, 10, 14)] == [1, 2, 3, 3, 3]
    assert bound.value("web", 30 * 60 * S) == 0


def test_an_entry_out_of_order_counts_in_sliding_values_from_its_time_on() -> None:
    bound = paned(Sliding(seconds(60)))
    bound.add("web", 30 * S)
    assert bound.add("web", 10 * S) == 1
    assert bound.add("web", 31 * S) == 3
    assert bound.add("web", 70 * S) == 3


def test_a_late_entry_still_counts_in_sliding_values_to_come() -> None:
    bound = paned(Sliding(seconds(60)))
    bound.advance(30 * S)
    bound.add("web", 10 * S)
    assert len(bound.take_late()) == 1
    assert bound.add("web", 40 * S) == 2


def test_sliding_windows_are_never_reported_as_closed() -> None:
    bound = paned(Sliding(seconds(60)))
    bound.add("web", 0)
    assert bound.advance(10_000 * S) == []


def test_a_sliding_maximum_forgets_what_is_too_old() -> None:
    bound = paned(Sliding(seconds(10), resolution=seconds(1)), Max())
    bound.add("web", 0, 9)
    assert bound.add("web", 5 * S, 4) == 9
    assert bound.add("web", 10 * S, 1) == 4


def test_closed_windows_can_be_read_for_as_long_as_they_are_retained() -> None:
    bound = paned(Tumbling(seconds(10)), retain=seconds(20))
    bound.add("web", 5 * S)
    bound.add("web", 15 * S)
    bound.advance(20 * S)
    assert [value for _, value in bound.windows("web")] == [1, 1]
    bound.add("web", 5 * S)
    assert bound["web", 5 * S] == 1, "a closed window never changes"
    bound.advance(30 * S)
    assert [span.start_us for span, _ in bound.windows("web")] == [10 * S]


def test_changes_hold_each_row_once_and_name_what_was_deleted() -> None:
    bound = paned(Tumbling(seconds(10)))
    for _ in range(1000):
        bound.add("web", 5 * S)
    assert bound.changes() == {"0|web": b"1000"}
    assert bound.changes() == {}
    bound.advance(10 * S)
    assert bound.changes() == {"0|web": None, "closed": b"10000000"}


def test_a_key_may_contain_anything() -> None:
    bound = paned(Tumbling(seconds(10)))
    bound.add("closed|a|b\n☂", 0)
    after = paned(Tumbling(seconds(10)))
    after.restore(bound.snapshot())
    assert after.keys() == ["closed|a|b\n☂"]


def test_beyond_the_limit_the_keys_silent_for_longest_go_and_are_counted() -> None:
    bound = paned(Tumbling(seconds(10)), keys_max=3)
    for key, at in (("a", 31), ("b", 11), ("c", 21), ("d", 22)):
        bound.add(key, at * S)
    assert bound.keys() == ["a", "c", "d"]
    assert bound.evicted == {"keys_max": 1}
    assert bound.changes()["10000000|b"] is None
    assert [window.key for window in bound.advance(100 * S)] == ["c", "d", "a"]


def test_a_key_that_comes_back_after_eviction_starts_anew() -> None:
    bound = paned(Hopping(seconds(20), seconds(10)), keys_max=1)
    bound.add("a", 5 * S)
    bound.add("b", 6 * S)
    assert bound.add("a", 15 * S) == 1
    assert [(window.key, window.start_us) for window in bound.advance(100 * S)] == [("a", 0), ("a", 10 * S)]


def test_a_late_entry_shows_at_once_in_the_hopping_window_that_is_still_open() -> None:
    bound = paned(Hopping(seconds(30), seconds(10)))
    bound.advance(10 * S)
    assert bound.add("web", 15 * S) == 1
    assert bound.add("web", 5 * S) == 2
    assert bound["web", 15 * S] == 2


def test_a_sliding_value_forgets_what_was_evicted() -> None:
    bound = paned(Sliding(seconds(60)), keys_max=1)
    bound.add("a", 0)
    bound.add("a", 5 * S)
    bound.add("b", 5 * S)
    assert bound.add("a", 5 * S) == 1


def test_the_latest_entry_of_a_key_decides_whether_it_goes() -> None:
    bound = paned(Sliding(seconds(60)), keys_max=2)
    for key, at in (("a", 0), ("b", 10), ("a", 20), ("c", 21)):
        bound.add(key, at * S)
    assert bound.keys() == ["a", "c"]


def test_an_older_entry_does_not_make_a_key_older() -> None:
    bound = Table("t", value=Count, retain=seconds(60)).bind()
    bound.add("a", 50 * S)
    bound.add("a", 10 * S)
    assert bound.snapshot() == {"a": b"50000000 2"}
    bound.advance(109 * S)
    assert bound.keys() == ["a"]


def test_without_a_window_entries_are_taken_together_from_the_first_on() -> None:
    bound = Table("t", value=Mean).bind()
    assert bound.add("web", 0, 1.0) == 1
    assert bound.add("web", 10**15, 3.0) == 2
    assert bound["web"] == 2
    assert bound["other"] is None


def test_without_a_window_silent_keys_go_after_their_retention() -> None:
    bound = Table("t", value=Count, retain=seconds(60)).bind()
    bound.add("a", 0)
    bound.add("b", 0)
    bound.add("b", 50 * S)
    assert bound.advance(60 * S) == []
    assert bound.keys() == ["b"]
    bound.advance(110 * S)
    assert bound.snapshot() == {}


def test_without_a_window_the_limit_on_keys_holds_too() -> None:
    bound = Table("t", value=Count, keys_max=2).bind()
    for at, key in enumerate("abc"):
        bound.add(key, at)
    assert (bound.keys(), bound.evicted) == (["b", "c"], {"keys_max": 1})
    assert bound.changes() == {"a": None, "b": b"1 1", "c": b"2 1"}


def test_an_amount_that_is_needed_and_missing_is_asked_for() -> None:
    with pytest.raises(TypeError, match="table 't' computes Sum of amounts and was given none"):
        Table("t", value=Sum).bind().add("web", 0)


def test_a_key_without_a_time_is_refused_because_there_is_no_clock() -> None:
    with pytest.raises(TypeError, match="without a time"):
        Watcher().counts.add("web")
    with pytest.raises(TypeError, match="ask for the value at an instant"):
        Watcher().counts.value("web")


def test_a_refused_amount_leaves_the_table_as_it_was() -> None:
    bound = paned(Tumbling(seconds(10)), Sum())
    with pytest.raises(PoisonedEventError):
        bound.add("web", 0, float("nan"))
    assert (bound.snapshot(), bound.changes(), bound.keys()) == ({}, {}, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lateness": timedelta(seconds=-1), "window": Tumbling(seconds(1))}, "expected zero or more"),
        ({"retain": timedelta(seconds=-1)}, "expected zero or more"),
        ({"lateness": seconds(1)}, "a lateness but no window"),
        ({"value": Rate}, "Rate but no window"),
        ({"retain": seconds(1), "window": Sliding(seconds(1))}, "make the window longer"),
        ({"keys_max": 0}, "keys_max=0"),
        ({"value": "count"}, "expected an aggregate"),
    ],
)
def test_declarations_that_do_not_fit_together_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Table("t", **{"value": Count, **arguments})
