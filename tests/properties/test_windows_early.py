"""Laws of early results: they say what holds, count up, change nothing of the final ones, and survive restarts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tables.aggregates import Count
from tables.table import Table
from tables.watermark import Watermark
from tables.windowed import WindowedTable
from tables.windows import Hopping, Tumbling, Window
from topology.state import ClosedWindow

Entry = tuple[str, int]


def us(count: int) -> timedelta:
    return timedelta(microseconds=count)


entries = st.lists(st.tuples(st.sampled_from("ab"), st.integers(-40, 40)), max_size=40)
windows: st.SearchStrategy[Window] = st.one_of(
    st.builds(lambda size: Tumbling(us(size)), st.integers(1, 30)),
    st.builds(lambda step, n: Hopping(us(step * n), us(step)), st.integers(1, 10), st.integers(1, 4)),
)
earlies = st.one_of(st.integers(1, 4), st.builds(us, st.integers(1, 12)))
latenesses = st.integers(0, 30)


def table(window: Window, early: timedelta | int | None, keys_max: int = 100) -> WindowedTable[int, int]:
    bound = Table("t", window=window, value=Count, early=early, keys_max=keys_max).bind()
    assert isinstance(bound, WindowedTable)
    return bound


def run(bound: WindowedTable[int, int], given_entries: list[Entry], watermark: Watermark) -> list[ClosedWindow]:
    closed: list[ClosedWindow] = []
    for key, at_us in given_entries:
        bound.add(key, at_us)
        closed += bound.advance(watermark.observe(at_us))
    return closed


@given(windows, earlies, entries, latenesses)
def test_final_results_are_the_same_with_and_without_early_ones(
    window: Window, early: timedelta | int, given_entries: list[Entry], lateness: int
) -> None:
    plain, eager = table(window, None), table(window, early)
    expected = run(plain, given_entries, Watermark(us(lateness))) + plain.advance(10_000)
    found = run(eager, given_entries, Watermark(us(lateness))) + eager.advance(10_000)
    assert [replace(one, revision=0) for one in found if one.final] == expected
    assert eager.take_late() == plain.take_late()


@given(windows, earlies, entries, latenesses)
def test_the_results_of_a_window_count_up_each_says_what_holds_then_and_the_final_one_is_last(
    window: Window, early: timedelta | int, given_entries: list[Entry], lateness: int
) -> None:
    bound, watermark = table(window, early), Watermark(us(lateness))
    plain = table(window, None)
    given_so_far: dict[tuple[str, int], list[ClosedWindow]] = {}
    for key, at_us in [*given_entries, ("end", 10_000)]:
        bound.add(key, at_us)
        plain.add(key, at_us)
        mark = watermark.observe(at_us)
        plain.advance(mark)
        for one in bound.advance(mark):
            before = given_so_far.setdefault((one.key, one.end_us), [])
            assert one.revision == len(before)
            assert all(not earlier.final and earlier.value <= one.value for earlier in before)
            if not one.final:
                values = {span.end_us: value for span, value in plain.windows(one.key)}
                assert one.value == values[one.end_us]
                assert not before or one.value > before[-1].value, "nothing new was said"
            before.append(one)


@given(windows, earlies, entries, latenesses, st.integers(0, 40))
def test_a_prefix_a_restart_and_the_rest_equal_all(
    window: Window, early: timedelta | int, given_entries: list[Entry], lateness: int, cut: int
) -> None:
    whole = table(window, early)
    expected = run(whole, given_entries, Watermark(us(lateness)))
    before, mark = table(window, early), Watermark(us(lateness))
    closed = run(before, given_entries[:cut], mark)
    after = table(window, early)
    after.restore(before.snapshot())
    closed += run(after, given_entries[cut:], mark)
    assert closed == expected
    assert after.snapshot() == whole.snapshot()


@given(windows, earlies, entries, latenesses, st.integers(1, 7), st.sampled_from([1, 100]))
def test_a_table_equals_the_fold_of_its_changes(
    window: Window, early: timedelta | int, given_entries: list[Entry], lateness: int, batch: int, keys_max: int
) -> None:
    bound, watermark = table(window, early, keys_max), Watermark(us(lateness))
    folded: dict[str, bytes] = {}
    for start in range(0, len(given_entries), batch):
        run(bound, given_entries[start : start + batch], watermark)
        for row, data in bound.changes().items():
            folded.pop(row, None)
            if data is not None:
                folded[row] = data
        assert folded == bound.snapshot()
