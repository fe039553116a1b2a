"""Laws of windows, watermarks and tables, against a brute-force oracle that knows nothing of panes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tables.aggregates import Aggregate, Count, Fold, Last, Max, Mean, Min, Rate, Sum
from tables.table import Table
from tables.watermark import Watermark
from tables.windowed import WindowedTable
from tables.windows import Hopping, Sliding, Span, Tumbling, Window
from topology.state import ClosedWindow

instants = st.integers(min_value=-500, max_value=500)
parts = st.integers(min_value=1, max_value=12)
times = st.integers(min_value=1, max_value=5)


def us(count: int) -> timedelta:
    return timedelta(microseconds=count)


tumbling = st.builds(lambda size: Tumbling(us(size)), parts)
hopping = st.builds(lambda step, n: Hopping(us(step * n), us(step)), parts, times)
sliding = st.builds(lambda width, n: Sliding(us(width * n), us(width)), parts, times)
closing = st.one_of(tumbling, hopping)
windows = st.one_of(tumbling, hopping, sliding)


@dataclass(frozen=True)
class Entry:
    key: str
    at_us: int
    amount: int


# Close enough together that windows of several panes hold several entries.
close_instants = st.integers(min_value=-40, max_value=40)
entries = st.lists(st.builds(Entry, st.sampled_from("ab"), close_instants, st.integers(-9, 9)), max_size=40)

Oracle = Callable[[list[Entry], int], Any]
ORACLES: list[tuple[Aggregate[Any, Any, Any], Oracle]] = [
    (Count(), lambda found, _: sum(entry.amount for entry in found)),
    (Sum(), lambda found, _: sum(entry.amount for entry in found)),
    (Min(), lambda found, _: min((entry.amount for entry in found), default=None)),
    (Max(), lambda found, _: max((entry.amount for entry in found), default=None)),
    (Mean(), lambda found, _: sum(entry.amount for entry in found) / len(found) if found else None),
    (Rate(), lambda found, size: sum(entry.amount for entry in found) * 1_000_000 / size),
    (
        Last(),
        lambda found, _: max(enumerate(found), key=lambda pair: (pair[1].at_us, pair[0]))[1].amount if found else None,
    ),
    (
        Fold[int, list[int]](list, lambda seen, amount: sorted([*seen, amount]), lambda a, b: sorted(a + b)),
        lambda found, _: sorted(entry.amount for entry in found),
    ),
]
aggregates = st.sampled_from(ORACLES)


def table(window: Window, aggregate: Aggregate[Any, Any, Any], lateness: int = 0) -> WindowedTable[Any, Any]:
    bound = Table("t", window=window, value=aggregate, lateness=us(lateness)).bind()
    assert isinstance(bound, WindowedTable)
    return bound


def run(bound: WindowedTable[Any, Any], given_entries: list[Entry], watermark: Watermark) -> list[ClosedWindow]:
    """What an engine does with a batch: each entry, then the watermark after it."""
    closed: list[ClosedWindow] = []
    for entry in given_entries:
        bound.add(entry.key, entry.at_us, entry.amount)
        closed += bound.advance(watermark.observe(entry.at_us))
    return closed


@given(windows, instants)
def test_every_window_of_an_instant_covers_it_and_has_the_full_size(window: Window, at: int) -> None:
    for span in window.spans_of(at):
        assert span.covers(at)
        assert span.end_us - span.start_us == window.size_us


@given(tumbling, instants)
def test_a_tumbling_window_covers_each_instant_once_and_neighbours_touch(window: Window, at: int) -> None:
    (span,) = window.spans_of(at)
    assert window.spans_of(span.end_us - 1) == (span,)
    assert window.spans_of(span.end_us)[0].start_us == span.end_us


@given(parts, times, instants)
def test_hopping_windows_cover_each_instant_size_by_step_times(step: int, n: int, at: int) -> None:
    window = Hopping(us(step * n), us(step))
    starts = range(at - at % step - step * n, at + step * n, step)
    by_force = [Span(start, start + step * n) for start in starts if start <= at < start + step * n]
    assert list(window.spans_of(at)) == by_force
    assert len(by_force) == n


@given(parts, times, instants)
def test_a_sliding_window_covers_at_least_its_size_less_one_resolution(width: int, n: int, at: int) -> None:
    (span,) = Sliding(us(width * n), us(width)).spans_of(at)
    assert at - width * n < span.start_us <= at - width * n + width


@given(st.lists(instants), st.integers(0, 50))
def test_a_watermark_never_goes_back_and_trails_the_latest_event(seen: list[int], lateness: int) -> None:
    watermark = Watermark(us(lateness))
    marks = [watermark.observe(at) for at in seen]
    assert marks == sorted(marks)
    assert marks == [max(seen[: n + 1]) - lateness for n in range(len(seen))]


@given(closing, aggregates, entries)
def test_closed_windows_are_what_brute_force_finds(
    window: Window, aggregate: tuple[Aggregate[Any, Any, Any], Oracle], given_entries: list[Entry]
) -> None:
    kind, oracle = aggregate
    bound = table(window, kind)
    for entry in given_entries:
        bound.add(entry.key, entry.at_us, entry.amount)
    expected = sorted(
        {(span.end_us, entry.key, span.start_us) for entry in given_entries for span in window.spans_of(entry.at_us)}
    )
    by_force = [
        ClosedWindow(
            "t",
            key,
            start,
            end,
            oracle([e for e in given_entries if e.key == key and start <= e.at_us < end], window.size_us),
        )
        for end, key, start in expected
    ]
    assert bound.advance(10_000) == by_force
    assert list(bound.snapshot()) == ["closed"], "closed windows leave nothing behind"


@given(sliding, aggregates, entries)
def test_sliding_values_are_what_brute_force_finds(
    window: Window, aggregate: tuple[Aggregate[Any, Any, Any], Oracle], given_entries: list[Entry]
) -> None:
    kind, oracle = aggregate
    bound = table(window, kind)
    for n, entry in enumerate(given_entries):
        value = bound.add(entry.key, entry.at_us, entry.amount)
        (span,) = window.spans_of(entry.at_us)
        seen = [e for e in given_entries[: n + 1] if e.key == entry.key and span.covers(e.at_us)]
        assert value == oracle(seen, window.size_us)


@given(closing, aggregates, entries, st.integers(0, 20))
def test_an_added_value_is_that_of_the_first_open_window(
    window: Window, aggregate: tuple[Aggregate[Any, Any, Any], Oracle], given_entries: list[Entry], lateness: int
) -> None:
    kind, oracle = aggregate
    bound, watermark = table(window, kind), Watermark(us(lateness))
    for n, entry in enumerate(given_entries):
        mark = watermark.at_us
        value = bound.add(entry.key, entry.at_us, entry.amount)
        still_open = [span for span in window.spans_of(entry.at_us) if mark is None or span.end_us > mark]
        seen = [
            e for e in given_entries[: n + 1] if e.key == entry.key and still_open and still_open[0].covers(e.at_us)
        ]
        assert value == bound.value(entry.key, entry.at_us)
        assert value == oracle(seen, window.size_us)
        bound.advance(watermark.observe(entry.at_us))


@given(st.integers(1, 60), entries)
def test_a_resolution_of_one_microsecond_is_exact(size: int, given_entries: list[Entry]) -> None:
    bound = table(Sliding(us(size), us(1)), Count())
    for n, entry in enumerate(given_entries):
        seen = [
            e.amount
            for e in given_entries[: n + 1]
            if e.key == entry.key and entry.at_us - size < e.at_us <= entry.at_us
        ]
        assert bound.add(entry.key, entry.at_us, entry.amount) == sum(seen)


@given(windows, aggregates, entries, st.integers(0, 20))
def test_every_entry_is_in_all_its_windows_or_reported_as_late(
    window: Window, aggregate: tuple[Aggregate[Any, Any, Any], Oracle], given_entries: list[Entry], lateness: int
) -> None:
    bound, watermark = table(window, aggregate[0], lateness), Watermark()
    late = []
    for entry in given_entries:
        mark = watermark.at_us
        bound.add(entry.key, entry.at_us, entry.amount)
        expected = mark is not None and entry_misses_a_window(window, entry, mark - lateness)
        reported = bound.take_late()
        assert [(one.key, one.at_us) for one in reported] == ([(entry.key, entry.at_us)] if expected else [])
        late += reported
        bound.advance(watermark.observe(entry.at_us))


def entry_misses_a_window(window: Window, entry: Entry, mark: int) -> bool:
    pane_end = entry.at_us - entry.at_us % window.pane_us + window.pane_us
    return pane_end <= mark


@given(closing, entries, st.integers(0, 40))
def test_count_is_neither_lost_nor_doubled(window: Window, given_entries: list[Entry], lateness: int) -> None:
    bound, watermark = table(window, Count()), Watermark(us(lateness))
    counted: Counter[tuple[str, int]] = Counter()
    expected: Counter[tuple[str, int]] = Counter()
    for entry in given_entries:
        mark = watermark.at_us
        for span in window.spans_of(entry.at_us):
            if mark is None or span.end_us > mark:
                expected[entry.key, span.end_us] += 1
        bound.add(entry.key, entry.at_us)
        closed = bound.advance(watermark.observe(entry.at_us))
        counted.update({(window.key, window.end_us): window.value for window in closed})
    counted.update({(window.key, window.end_us): window.value for window in bound.advance(10_000)})
    assert counted == expected


@given(closing, aggregates, st.data())
def test_order_of_arrival_within_the_lateness_does_not_change_closed_windows(
    window: Window, aggregate: tuple[Aggregate[Any, Any, Any], Oracle], data: st.DataObject
) -> None:
    moments = data.draw(st.lists(close_instants, unique=True, max_size=30))
    given_entries = [Entry("ab"[at % 2], at, at % 7) for at in moments]
    in_order = sorted(given_entries, key=lambda entry: entry.at_us)
    disorder = max((max(moments[: n + 1]) - at for n, at in enumerate(moments)), default=0)
    results = []
    for arrival in (given_entries, in_order):
        bound = table(window, aggregate[0])
        closed = run(bound, arrival, Watermark(us(disorder)))
        closed += bound.advance(10_000)
        assert bound.take_late() == []
        results.append(closed)
    assert results[0] == results[1]


@given(windows, aggregates, entries, st.integers(0, 20), st.integers(0, 40))
def test_a_prefix_a_restart_and_the_rest_equal_all(
    window: Window,
    aggregate: tuple[Aggregate[Any, Any, Any], Oracle],
    given_entries: list[Entry],
    lateness: int,
    cut: int,
) -> None:
    kind = aggregate[0]
    whole, watermark = table(window, kind), Watermark(us(lateness))
    expected = run(whole, given_entries, watermark)
    before, mark_before = table(window, kind), Watermark(us(lateness))
    closed = run(before, given_entries[:cut], mark_before)
    late = before.take_late()
    after, mark_after = table(window, kind), Watermark(us(lateness))
    after.restore(before.snapshot())
    mark_after.restore(mark_before.snapshot())
    closed += run(after, given_entries[cut:], mark_after)
    late += after.take_late()
    assert closed == expected
    assert late == whole.take_late()
    assert after.snapshot() == whole.snapshot()
    assert after.advance(10_000) == whole.advance(10_000)


@given(windows, aggregates, entries, st.integers(1, 7), st.sampled_from([1, 2, 100]))
def test_a_table_equals_the_fold_of_its_changes(
    window: Window,
    aggregate: tuple[Aggregate[Any, Any, Any], Oracle],
    given_entries: list[Entry],
    batch: int,
    keys_max: int,
) -> None:
    bound = Table("t", window=window, value=aggregate[0], keys_max=keys_max).bind()
    assert isinstance(bound, WindowedTable)
    watermark = Watermark(us(15))
    folded: dict[str, bytes] = {}
    for start in range(0, len(given_entries), batch):
        run(bound, given_entries[start : start + batch], watermark)
        for row, data in bound.changes().items():
            folded.pop(row, None)
            if data is not None:
                folded[row] = data
        assert folded == bound.snapshot()


@given(windows, entries, st.integers(1, 5))
def test_memory_is_bounded_by_keys_and_panes_however_many_entries_come(
    window: Window, given_entries: list[Entry], repeats: int
) -> None:
    assume(given_entries)
    bound, watermark = table(window, Count()), Watermark(us(10))
    for entry in sorted(given_entries * repeats, key=lambda entry: entry.at_us):
        run(bound, [entry], watermark)
        rows = len(bound.snapshot()) - 1
        still_needed = (window.size_us + 10) // window.pane_us + 2
        assert rows <= 2 * still_needed


@given(entries, st.integers(1, 3), st.sampled_from([None, 30]))
def test_tables_without_windows_equal_the_fold_of_their_changes_and_survive_a_restart(
    given_entries: list[Entry], keys_max: int, retain: int | None
) -> None:
    declared = Table("t", value=Mean, keys_max=keys_max, retain=None if retain is None else us(retain))
    bound, folded = declared.bind(), dict[str, bytes]()
    for entry in given_entries:
        bound.add(entry.key, entry.at_us, entry.amount)
        bound.advance(entry.at_us)
        for row, data in bound.changes().items():
            folded.pop(row, None)
            if data is not None:
                folded[row] = data
        assert folded == bound.snapshot()
        other = declared.bind()
        other.restore(folded)
        assert other.snapshot() == bound.snapshot()
        bound = other
