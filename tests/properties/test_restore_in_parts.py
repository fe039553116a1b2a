"""Whatever the parts a state is restored in, their order, and the rows that come twice, the table goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tables.aggregates import Count, Mean
from tables.keyed import Keyed
from tables.stream_join import JoinedStreams
from tables.table import Table
from tables.table_join import JoinedTable
from tables.windows import Hopping, Session, Sliding, Tumbling
from topology.payloads import ChangeApplied, LogWritten


def us(number: int) -> timedelta:
    return timedelta(microseconds=number)


@dataclass(frozen=True)
class Entry:
    key: str
    at_us: int
    kind: int


def _add(state: Any, entry: Entry) -> object:
    return state.add(entry.key, entry.at_us, 1)


def _put(state: Any, entry: Entry) -> object:
    if entry.kind == 0:
        return state.delete(entry.key)
    return state.put(entry.key, entry.at_us, entry.at_us)


def _happening(entry: Entry) -> Any:
    payload = LogWritten(service=entry.key, message="m") if entry.kind else ChangeApplied(service=entry.key, change="c")
    return SimpleNamespace(at_us=entry.at_us, payload=payload)


def _look_up(state: Any, entry: Entry) -> object:
    happening = _happening(entry)
    return state.take(happening) or state.match(happening)


def _join(state: Any, entry: Entry) -> object:
    return state.add(_happening(entry))


TABLES: list[tuple[Callable[[], Any], Callable[[Any, Entry], object]]] = [
    (Table("t", value=Count, window=Tumbling(us(10)), retain=us(5), keys_max=3).bind, _add),
    (Table("t", value=Count, window=Tumbling(us(10)), early=2).bind, _add),
    (Table("t", value=Mean, window=Hopping(us(10), us(5)), keys_max=3, early=us(4)).bind, _add),
    (Table("t", value=Mean, window=Sliding(us(40)), keys_max=3).bind, _add),
    (Table("t", value=Count, window=Session(us(7)), lateness=us(9), keys_max=3).bind, _add),
    (Table("t", value=Mean, retain=us(20), keys_max=3).bind, _add),
    (Keyed("t", value=int, retain=us(20), keys_max=3).bind, _put),
    (JoinedTable("t", fed_by=ChangeApplied, retain=us(20), keys_max=3).bind, _look_up),
    (
        JoinedStreams(
            "t", left=ChangeApplied, right=LogWritten, after=us(10), keep_unmatched=True, lateness=us(9), entries_max=8
        ).bind,
        _join,
    ),
]

entries = st.lists(st.builds(Entry, st.sampled_from("abcd"), st.integers(0, 60), st.integers(0, 2)), max_size=25)


def go_on(state: Any, take: Callable[[Any, Entry], object], given_entries: Sequence[Entry], since_us: int) -> object:
    """All that can be seen of what a table does with some entries."""
    seen: list[object] = []
    for entry in given_entries:
        later = Entry(entry.key, since_us + entry.at_us, entry.kind)
        seen.append(take(state, later))
        seen.append(state.advance(later.at_us - 10))
    seen += [state.take_late(), sorted(state.changes().items()), state.snapshot(), dict(state.evicted)]
    return seen


@given(st.sampled_from(TABLES), entries, entries, st.randoms(use_true_random=False), st.integers(1, 5))
def test_parts_in_any_order_with_rows_that_come_twice_make_the_same_table(
    table: tuple[Callable[[], Any], Callable[[Any, Entry], object]],
    before: list[Entry],
    after: list[Entry],
    dice: Any,
    size: int,
) -> None:
    bind, take = table
    original = bind()
    go_on(original, take, before, 0)
    stored = original.snapshot()
    whole, in_parts = bind(), bind()
    whole.restore(stored)

    rows = list(stored.items())
    rows += dice.choices(rows, k=3) if rows else []
    dice.shuffle(rows)
    for first in range(0, len(rows), size):
        in_parts.restore(dict(rows[first : first + size]), last=False)
    in_parts.restore({}, last=True)

    assert in_parts.changes() == {}, "what is stored is no change"
    assert in_parts.snapshot() == stored
    since_us = max((entry.at_us for entry in before), default=0) - 15
    assert go_on(in_parts, take, after, since_us) == go_on(whole, take, after, since_us)
