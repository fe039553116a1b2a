"""Laws of joins, against a brute-force oracle that compares everything with everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass as payload

from tables.stream_join import JoinedStreams, Pair, StreamJoin
from tables.table_join import JoinedTable
from tables.watermark import Watermark
from topology.state import ClosedWindow


@payload(frozen=True)
class Left:
    service: str
    number: int


@payload(frozen=True)
class Right:
    service: str
    number: int


@dataclass(frozen=True)
class Happening:
    payload: Left | Right
    at_us: int


@st.composite
def streams(draw: st.DrawFn) -> list[Happening]:
    """Numbered, so that equal ones can be told apart."""
    drawn: list[tuple[type[Left] | type[Right], str, int]] = draw(
        st.lists(st.tuples(st.sampled_from([Left, Right]), st.sampled_from("ab"), st.integers(-30, 30)), max_size=40)
    )
    return [Happening(kind(key, number), at_us) for number, (kind, key, at_us) in enumerate(drawn)]


distances = st.integers(0, 12)
latenesses = st.integers(0, 60)
Said = tuple[list[Pair[Left, Right]], list[ClosedWindow]]


def us(count: int) -> timedelta:
    return timedelta(microseconds=count)


def join(before: int, after: int, *, entries_max: int = 1000, keep: bool = True) -> StreamJoin[Left, Right]:
    return JoinedStreams(
        "j", left=Left, right=Right, before=us(before), after=us(after), entries_max=entries_max, keep_unmatched=keep
    ).bind()


def run(bound: StreamJoin[Left, Right], happenings: Sequence[Happening], watermark: Watermark) -> Said:
    pairs: list[Pair[Left, Right]] = []
    closed: list[ClosedWindow] = []
    for happening in happenings:
        pairs += bound.add(happening)
        closed += bound.advance(watermark.observe(happening.at_us))
    return pairs, closed


def on_time(happenings: Sequence[Happening], lateness: int) -> list[bool]:
    found, mark = [], -1_000
    for happening in happenings:
        found.append(happening.at_us >= mark)
        mark = max(mark, happening.at_us - lateness)
    return found


def belong_together(left: Happening, right: Happening, before: int, after: int) -> bool:
    return (
        isinstance(left.payload, Left)
        and isinstance(right.payload, Right)
        and left.payload.service == right.payload.service
        and left.at_us - before <= right.at_us <= left.at_us + after
    )


@given(streams(), distances, distances, latenesses)
def test_each_pair_of_entries_on_time_is_found_once_in_order_and_lefts_without_one_are_reported_once(
    happenings: list[Happening], before: int, after: int, lateness: int
) -> None:
    bound = join(before, after)
    pairs, closed = run(bound, happenings, Watermark(us(lateness)))
    closed += bound.advance(1_000)
    taken = [one for one, fits in zip(happenings, on_time(happenings, lateness), strict=True) if fits]
    late = [one for one in happenings if one not in taken]
    expected = []
    for n, second in enumerate(taken):
        firsts = [
            (first.at_us, m, (first, second) if isinstance(first.payload, Left) else (second, first))
            for m, first in enumerate(taken[:n])
            if belong_together(first, second, before, after) or belong_together(second, first, before, after)
        ]
        expected += [pair for _, _, pair in sorted(firsts, key=lambda found: found[:2])]
    assert [(pair.left, pair.right) for pair in pairs] == [(left.payload, right.payload) for left, right in expected]
    assert [(pair.left_at_us, pair.right_at_us) for pair in pairs] == [(a.at_us, b.at_us) for a, b in expected]
    matched = {left.payload for left, _ in expected}
    alone = [one for one in taken if isinstance(one.payload, Left) and one.payload not in matched]
    reported = [(window.start_us, left) for window in closed for left in window.value]
    assert sorted(reported, key=lambda found: found[1].number) == [(one.at_us, one.payload) for one in alone]
    assert [(one.end_us, one.key) for one in closed] == sorted({(one.end_us, one.key) for one in closed})
    assert [(one.key, one.at_us) for one in bound.take_late()] == [(one.payload.service, one.at_us) for one in late]
    assert bound.snapshot() == ({"closed": b"1000"}), "nothing is left behind"


@given(streams(), distances, distances, latenesses)
def test_an_inner_join_finds_the_same_pairs_and_reports_nothing_else(
    happenings: list[Happening], before: int, after: int, lateness: int
) -> None:
    inner, left = join(before, after, keep=False), join(before, after)
    pairs, closed = run(inner, happenings, Watermark(us(lateness)))
    assert closed == []
    assert pairs == run(left, happenings, Watermark(us(lateness)))[0]


@given(streams(), distances, distances, latenesses, st.integers(0, 40), st.sampled_from([3, 1000]))
def test_a_prefix_a_restart_and_the_rest_equal_all(
    happenings: list[Happening], before: int, after: int, lateness: int, cut: int, entries_max: int
) -> None:
    whole = join(before, after, entries_max=entries_max)
    expected = run(whole, happenings, Watermark(us(lateness)))
    first, mark = join(before, after, entries_max=entries_max), Watermark(us(lateness))
    pairs, closed = run(first, happenings[:cut], mark)
    late = first.take_late()
    second = join(before, after, entries_max=entries_max)
    second.restore(first.snapshot())
    more_pairs, more_closed = run(second, happenings[cut:], mark)
    assert (pairs + more_pairs, closed + more_closed) == expected
    assert late + second.take_late() == whole.take_late()
    assert second.snapshot() == whole.snapshot()


@given(streams(), distances, distances, latenesses, st.integers(1, 7), st.sampled_from([1, 3, 1000]))
def test_a_join_equals_the_fold_of_its_changes_and_keeps_its_limit(
    happenings: list[Happening], before: int, after: int, lateness: int, batch: int, entries_max: int
) -> None:
    bound, watermark = join(before, after, entries_max=entries_max), Watermark(us(lateness))
    folded: dict[str, bytes] = {}
    for start in range(0, len(happenings), batch):
        run(bound, happenings[start : start + batch], watermark)
        for row, data in bound.changes().items():
            folded.pop(row, None)
            if data is not None:
                folded[row] = data
        assert folded == bound.snapshot()
        assert len(bound) <= entries_max


@given(streams(), st.integers(0, 40), st.sampled_from([None, 10]))
def test_a_lookup_finds_what_was_taken_last_also_over_a_restart(
    happenings: list[Happening], cut: int, retain: int | None
) -> None:
    declared: JoinedTable[Any] = JoinedTable("t", fed_by=Right, retain=None if retain is None else us(retain))
    bound, mark = declared.bind(), -1_000
    taken: dict[str, Happening] = {}
    for n, happening in enumerate(happenings):
        if n == cut:
            rows = bound.snapshot()
            bound = declared.bind()
            bound.restore(rows)
        key = happening.payload.service
        if bound.take(happening):
            taken[key] = happening
        else:
            known = taken.get(key)
            assert bound.match(happening) == (None if known is None else known.payload)
        if happening.at_us > mark:  # as an engine does
            mark = happening.at_us
            bound.advance(mark)
            if retain is not None:
                taken = {known: one for known, one in taken.items() if one.at_us > mark - retain}
