"""Laws of session windows, against a brute-force oracle that knows nothing of merging."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tables.aggregates import Aggregate, Count, Fold, Last, Max, Mean
from tables.sessions import SessionTable
from tables.table import Table
from tables.watermark import Watermark
from tables.windows import Session
from topology.state import ClosedWindow


@dataclass(frozen=True)
class Entry:
    key: str
    at_us: int
    amount: int


entries = st.lists(st.builds(Entry, st.sampled_from("ab"), st.integers(-60, 60), st.integers(-9, 9)), max_size=40)
gaps = st.integers(1, 15)
latenesses = st.integers(0, 60)
ALL = Fold[int, list[int]](list, lambda seen, amount: sorted([*seen, amount]), lambda a, b: sorted(a + b))
aggregates: st.SearchStrategy[Aggregate[Any, Any, Any]] = st.sampled_from([Count(), Max(), Mean(), Last(), ALL])


def us(count: int) -> timedelta:
    return timedelta(microseconds=count)


def table(gap: int, aggregate: Aggregate[Any, Any, Any], keys_max: int = 100) -> SessionTable[Any, Any]:
    bound = Table("t", window=Session(us(gap)), value=aggregate, keys_max=keys_max).bind()
    assert isinstance(bound, SessionTable)
    return bound


def run(bound: SessionTable[Any, Any], given_entries: list[Entry], watermark: Watermark) -> list[ClosedWindow]:
    """What an engine does with a batch: each entry, then the watermark after it."""
    closed: list[ClosedWindow] = []
    for entry in given_entries:
        bound.add(entry.key, entry.at_us, entry.amount)
        closed += bound.advance(watermark.observe(entry.at_us))
    return closed


def chains(moments: list[int], gap: int) -> list[list[int]]:
    """The instants, cut where nothing happened for the gap."""
    found: list[list[int]] = []
    for at in sorted(moments):
        if found and at - found[-1][-1] < gap:
            found[-1].append(at)
        else:
            found.append([at])
    return found


class Oracle:
    """Keeps every entry that was taken and finds the sessions among all of them anew each time."""

    def __init__(self, gap: int) -> None:
        self.gap = gap
        self.taken: list[Entry] = []

    def moments(self, key: str) -> list[int]:
        return [entry.at_us for entry in self.taken if entry.key == key]

    def sessions(self, key: str) -> list[tuple[int, int]]:
        return [(chain[0], chain[-1] + self.gap) for chain in chains(self.moments(key), self.gap)]

    def is_late(self, entry: Entry, mark: int | None) -> bool:
        if mark is None:
            return False
        end = entry.at_us + self.gap
        overlapped = [one for one in self.sessions(entry.key) if one[0] < end and entry.at_us < one[1]]
        return any(session_end <= mark for _, session_end in overlapped) or (end <= mark and not overlapped)


@given(gaps, entries, latenesses)
def test_sessions_are_the_chains_of_entries_closer_than_the_gap_and_what_cannot_join_is_late(
    gap: int, given_entries: list[Entry], lateness: int
) -> None:
    bound, watermark, oracle = table(gap, ALL), Watermark(us(lateness)), Oracle(gap)
    closed: list[ClosedWindow] = []
    for entry in given_entries:
        late = oracle.is_late(entry, watermark.at_us)
        bound.add(entry.key, entry.at_us, entry.amount)
        reported = [(one.key, one.at_us) for one in bound.take_late()]
        assert reported == ([(entry.key, entry.at_us)] if late else [])
        if not late:
            oracle.taken.append(entry)
        mark = watermark.observe(entry.at_us)
        found = bound.advance(mark)
        assert [(one.end_us, one.key) for one in found] == sorted((one.end_us, one.key) for one in found)
        assert all(one.end_us <= mark for one in found)
        closed += found
    closed += bound.advance(10_000)
    by_force = [
        ClosedWindow(
            "t",
            key,
            start,
            end,
            sorted(entry.amount for entry in oracle.taken if entry.key == key and start <= entry.at_us < end),
        )
        for key in "ab"
        for start, end in oracle.sessions(key)
    ]
    assert sorted(closed, key=lambda one: (one.key, one.start_us)) == by_force


@given(gaps, aggregates, st.lists(st.integers(-60, 60), unique=True, max_size=40))
def test_order_of_arrival_within_the_lateness_does_not_change_sessions(
    gap: int, aggregate: Aggregate[Any, Any, Any], moments: list[int]
) -> None:
    given_entries = [Entry("ab"[at % 2], at, at % 7) for at in moments]
    disorder = max((max(moments[: n + 1]) - at for n, at in enumerate(moments)), default=0)
    results = []
    for arrival in (given_entries, sorted(given_entries, key=lambda entry: entry.at_us)):
        bound = table(gap, aggregate)
        closed = run(bound, arrival, Watermark(us(disorder)))
        results.append(closed + bound.advance(10_000))
        assert bound.take_late() == []
    assert results[0] == results[1]


@given(gaps, entries)
def test_the_value_added_to_is_that_of_the_session_at_that_instant(gap: int, given_entries: list[Entry]) -> None:
    bound = table(gap, Count())
    for entry in given_entries:
        value = bound.add(entry.key, entry.at_us)
        assert value == bound.value(entry.key, entry.at_us)
        [(_, found)] = [one for one in bound.windows(entry.key) if one[0].covers(entry.at_us)]
        assert value == found


@given(gaps, aggregates, entries, latenesses, st.integers(0, 40))
def test_a_prefix_a_restart_and_the_rest_equal_all(
    gap: int, aggregate: Aggregate[Any, Any, Any], given_entries: list[Entry], lateness: int, cut: int
) -> None:
    whole, watermark = table(gap, aggregate), Watermark(us(lateness))
    expected = run(whole, given_entries, watermark)
    before, mark = table(gap, aggregate), Watermark(us(lateness))
    closed = run(before, given_entries[:cut], mark)
    late = before.take_late()
    after = table(gap, aggregate)
    after.restore(before.snapshot())
    closed += run(after, given_entries[cut:], mark)
    assert closed == expected
    assert late + after.take_late() == whole.take_late()
    assert after.snapshot() == whole.snapshot()
    assert after.advance(10_000) == whole.advance(10_000)
    assert list(after.snapshot()) == ["closed"], "closed sessions leave nothing behind"


@given(gaps, aggregates, entries, latenesses, st.integers(1, 7), st.sampled_from([1, 100]))
def test_a_table_equals_the_fold_of_its_changes(
    gap: int, aggregate: Aggregate[Any, Any, Any], given_entries: list[Entry], lateness: int, batch: int, keys_max: int
) -> None:
    bound, watermark = table(gap, aggregate, keys_max), Watermark(us(lateness))
    folded: dict[str, bytes] = {}
    for start in range(0, len(given_entries), batch):
        run(bound, given_entries[start : start + batch], watermark)
        for row, data in bound.changes().items():
            folded.pop(row, None)
            if data is not None:
                folded[row] = data
        assert folded == bound.snapshot()
