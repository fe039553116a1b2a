"""Sessions as agents use them: what belongs together because nothing happened before and after it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tables.aggregates import Aggregate, Count, Last, Rate, Sum
from tables.sessions import SessionTable
from tables.table import Table
from tables.windows import Session, Span, seconds
from topology.errors import ConfigurationError, PoisonedEventError
from topology.state import ClosedWindow, LateEntry

S = 1_000_000


def sessions(value: Aggregate[Any, Any, Any] | None = None, **more: Any) -> SessionTable[Any, Any]:
    bound = Table("bursts", window=Session(seconds(10)), value=value or Count(), **more).bind()
    assert isinstance(bound, SessionTable)
    return bound


def test_entries_closer_than_the_gap_are_one_session_that_ends_a_gap_after_the_last() -> None:
    bound = sessions()
    assert [bound.add("web", at * S) for at in (0, 9, 15, 30)] == [1, 2, 3, 1]
    assert bound.windows("web") == [(Span(0, 25 * S), 3), (Span(30 * S, 40 * S), 1)]


def test_silence_of_exactly_the_gap_ends_a_session() -> None:
    bound = sessions()
    assert [bound.add("web", at * S) for at in (0, 10)] == [1, 1]


def test_an_entry_in_between_makes_one_session_of_two() -> None:
    bound = sessions(Last())
    bound.add("web", 12 * S, "later")
    bound.add("web", 0, "earlier")
    assert bound.add("web", 6 * S, "between") == "later"
    assert bound.windows("web") == [(Span(0, 22 * S), "later")]
    assert bound.changes() == {"12000000|web": None, "0|web": b'22000000 [12000000,"later"]'}


def test_each_key_has_sessions_of_its_own() -> None:
    bound = sessions()
    bound.add("a", 0)
    bound.add("b", 5 * S)
    assert bound.advance(15 * S) == [
        ClosedWindow("bursts", "a", 0, 10 * S, 1),
        ClosedWindow("bursts", "b", 5 * S, 15 * S, 1),
    ]
    assert bound.keys() == []


def test_a_session_closes_when_the_watermark_reaches_its_end_and_not_before() -> None:
    bound = sessions()
    bound.add("web", 0)
    bound.add("web", 8 * S)
    assert bound.advance(18 * S - 1) == []
    assert bound.advance(18 * S) == [ClosedWindow("bursts", "web", 0, 18 * S, 2)]


def test_the_tables_own_lateness_keeps_sessions_open_for_longer() -> None:
    bound = sessions(lateness=seconds(5))
    bound.add("web", 0)
    assert bound.advance(14 * S) == []
    assert bound.add("web", 9 * S) == 2
    assert [one.end_us for one in bound.advance(24 * S)] == [19 * S]


def test_an_entry_that_would_reach_into_a_closed_session_is_late() -> None:
    bound = sessions()
    bound.add("web", 0)
    bound.advance(10 * S)
    assert bound.add("web", 5 * S) == 0
    assert bound.take_late() == [LateEntry("bursts", "web", 5 * S)]
    assert bound.add("web", 10 * S) == 1


def test_an_old_entry_is_not_late_when_nothing_of_its_key_is_closed_that_it_belongs_to() -> None:
    bound = sessions()
    bound.advance(10 * S)
    assert bound.add("web", 5 * S) == 1
    assert bound.add("web", -S) == 2, "it belongs to the session that is open"
    bound.add("other", -S)
    assert bound.take_late() == [LateEntry("bursts", "other", -S)]


def test_what_a_closed_session_makes_late_is_late_after_a_restart_too() -> None:
    before = sessions()
    before.add("web", 0)
    before.advance(10 * S)
    assert before.snapshot() == {"0|web": b"10000000", "closed": b"10000000"}
    after = sessions()
    after.restore(before.snapshot())
    after.add("web", 5 * S)
    assert len(after.take_late()) == 1
    after.advance(20 * S)
    assert after.snapshot() == {"closed": b"20000000"}


def test_a_rate_is_per_second_of_the_session() -> None:
    bound = sessions(Rate())
    bound.add("web", 0, 20)
    assert bound.add("web", 5 * S, 10) == 2.0


def test_a_refused_amount_leaves_the_sessions_as_they_were() -> None:
    bound = sessions(Sum())
    for at in (0, 12):
        bound.add("web", at * S, 1)
    before = bound.snapshot()
    with pytest.raises(PoisonedEventError):
        bound.add("web", 6 * S, float("nan"))
    assert bound.snapshot() == before


def test_beyond_the_limit_the_keys_silent_for_longest_go_and_are_counted() -> None:
    bound = sessions(keys_max=2)
    for at, key in enumerate("abca"):
        bound.add(key, at * S)
    assert bound.keys() == ["a", "c"]
    assert bound.evicted == {"keys_max": 2}
    assert bound.windows("a") == [(Span(3 * S, 13 * S), 1)], "a key that comes back starts anew"


def test_a_flood_of_keys_leaves_nothing_behind_beyond_the_limit() -> None:
    bound = sessions(keys_max=10)
    for at in range(5_000):
        bound.add(f"key-{at}", at)
    waiting = len(bound._now) + sum(len(looks) for looks in bound._later.values())
    assert waiting == bound._waiting < 200


def test_a_key_without_a_time_is_refused() -> None:
    with pytest.raises(TypeError, match="ask for the value at an instant"):
        sessions().value("web")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retain": seconds(1)}, "retain with windows that overlap or depend on the data"),
        ({"early": 5}, "early results of sessions"),
    ],
)
def test_what_does_not_fit_to_sessions_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sessions(**arguments)


def test_a_gap_of_no_length_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Session: found gap=0:00:00"):
        Session(timedelta(0))
