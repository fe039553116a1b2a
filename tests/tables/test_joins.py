"""Joins as agents declare them: what is known of a key, and what happened close together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic.dataclasses import dataclass as payload

from tables.stream_join import JoinedStreams, Pair, StreamJoin
from tables.table_join import JoinedTable
from tables.windows import minutes, seconds
from topology import Agent, Event, World
from topology.errors import ConfigurationError, PoisonedEventError
from topology.payloads import AlertFired, AnomalyDetected, ChangeApplied
from topology.state import BoundedState, ClosedWindow, LateEntry, StateDeclaration

S = 1_000_000


@payload(frozen=True)
class Alert:
    service: str
    text: str = ""


@payload(frozen=True)
class Change:
    service: str
    version: str = ""


@payload(frozen=True)
class Other:
    service: str = "web"


@dataclass(frozen=True)
class Happening:
    payload: Any
    at_us: int = 0


def alert(at_s: float, text: str = "", service: str = "web") -> Happening:
    return Happening(Alert(service, text), int(at_s * S))


def change(at_s: float, version: str = "", service: str = "web") -> Happening:
    return Happening(Change(service, version), int(at_s * S))


def joined(**more: Any) -> StreamJoin[Alert, Change]:
    arguments = {"left": Alert, "right": Change, "before": seconds(60), **more}
    bound: StreamJoin[Alert, Change] = JoinedStreams("causes", **arguments).bind()
    return bound


def versions(pairs: Iterable[Pair[Alert, Change]]) -> list[tuple[str, str]]:
    return [(pair.left.text, pair.right.version) for pair in pairs]


class Blame(Agent[AlertFired | ChangeApplied, AnomalyDetected]):
    """Declares both joins, as an agent does."""

    changes = JoinedTable("changes", fed_by=ChangeApplied)
    causes = JoinedStreams("causes", left=AlertFired, right=ChangeApplied, before=minutes(10))

    def process(self, event: Event[AlertFired | ChangeApplied], world: World) -> Iterable[AnomalyDetected]:
        return ()


def test_joins_are_state_that_an_agent_declares() -> None:
    blame = Blame()
    assert set(blame.tables) == {"changes", "causes"}
    assert blame.changes.get("ledger") is None
    assert len(blame.causes) == 0
    for declared in (Blame.changes, Blame.causes):
        assert isinstance(declared, StateDeclaration)
        assert isinstance(declared.bind(), BoundedState)


def test_an_event_finds_what_was_taken_last_for_its_key() -> None:
    known = JoinedTable("changes", fed_by=Change).bind()
    assert [known.take(one) for one in (change(1, "v1"), change(2, "v2"), alert(3))] == [True, True, False]
    assert known.match(alert(4)) == Change("web", "v2")
    assert known.match(alert(4, service="other")) is None


def test_events_may_be_looked_up_by_another_field() -> None:
    known = JoinedTable("changes", fed_by=Change, looked_up_by="text").bind()
    known.take(change(1, "v1"))
    assert known.match(alert(2, text="web", service="?")) == Change("web", "v1")


def test_what_is_known_survives_a_restart() -> None:
    declared = JoinedTable("changes", fed_by=Change, retain=seconds(60))
    before, after = declared.bind(), declared.bind()
    before.take(change(1, "v1"))
    after.restore(before.snapshot())
    assert after.match(alert(2)) == Change("web", "v1")
    after.advance(61 * S)
    assert after.match(alert(62)) is None
    assert after.evicted == {"keys_max": 0, "retain": 1}


def test_an_event_without_the_key_is_poison() -> None:
    bound = JoinedStreams("causes", left=Alert, right=Change, key="nowhere").bind()
    with pytest.raises(PoisonedEventError, match=r"table 'causes' is keyed by 'nowhere', but this Alert"):
        bound.add(alert(1))


def test_a_pair_is_found_when_the_second_of_both_comes_whatever_their_order() -> None:
    bound = joined(after=seconds(5))
    assert bound.add(change(10, "v1")) == []
    assert bound.add(alert(70, "down")) == [Pair(Alert("web", "down"), Change("web", "v1"), 70 * S, 10 * S)]
    assert versions(bound.add(change(75, "v2"))) == [("down", "v2")]
    assert versions(bound.add(change(9, "too early"))) == []
    assert versions(bound.add(change(76, "too late"))) == []


def test_pairs_come_in_the_order_their_earlier_ones_happened() -> None:
    bound = joined()
    for at, version in ((30, "c"), (10, "a"), (20, "b"), (20, "b2")):
        bound.add(change(at, version))
    assert versions(bound.add(alert(40, "x"))) == [("x", "a"), ("x", "b"), ("x", "b2"), ("x", "c")]


def test_keys_do_not_mix_and_other_types_are_passed_over() -> None:
    bound = joined(right_key="service")
    bound.add(change(1, service="other"))
    assert bound.add(alert(2)) == []
    assert bound.add(Happening(Other())) == []


def test_what_nothing_can_belong_to_any_more_is_dropped() -> None:
    bound = joined(after=seconds(5))
    bound.add(change(10))
    bound.add(alert(100))
    bound.advance(70 * S)
    assert len(bound) == 2
    bound.advance(70 * S + 1)
    assert len(bound) == 1
    assert bound.advance(200 * S) == []
    assert bound.snapshot() == {"closed": b"200000000"}


def test_left_ones_that_found_nothing_are_reported_when_nothing_can_come() -> None:
    bound = joined(before=seconds(1), after=seconds(5), keep_unmatched=True)
    for one in (alert(10, "a"), alert(11, "b", "other"), alert(12, "found"), change(16)):
        bound.add(one)
    assert bound.advance(15 * S) == []
    assert bound.advance(30 * S) == [
        ClosedWindow("causes", "web", 10 * S, 15 * S + 1, (Alert("web", "a"),)),
        ClosedWindow("causes", "other", 11 * S, 16 * S + 1, (Alert("other", "b"),)),
    ]


def test_all_unmatched_ones_of_an_instant_are_one_result() -> None:
    bound = joined(keep_unmatched=True)
    bound.add(alert(10, "a"))
    bound.add(alert(10, "b"))
    assert bound.advance(11 * S) == [
        ClosedWindow("causes", "web", 10 * S, 10 * S + 1, (Alert("web", "a"), Alert("web", "b")))
    ]


def test_an_entry_behind_the_watermark_is_late_and_joins_nothing() -> None:
    bound = joined(lateness=seconds(5))
    bound.add(change(1))
    bound.advance(20 * S)
    assert len(bound.add(alert(15))) == 1
    assert bound.add(alert(14)) == []
    assert bound.take_late() == [LateEntry("causes", "web", 14 * S)]
    assert bound.take_late() == []


def test_beyond_the_limit_the_oldest_go_and_are_counted() -> None:
    bound = joined(entries_max=2)
    for at in (3, 1, 2):
        bound.add(change(at, str(at)))
    assert bound.evicted == {"entries_max": 1}
    assert [pair.right.version for pair in bound.add(alert(4))] == ["3"]
    assert len(bound) == 2


def test_rows_can_be_read_by_people() -> None:
    bound = joined(keep_unmatched=True)
    bound.add(change(1, "v1"))
    bound.add(alert(2, "down"))
    assert bound.changes() == {
        "r|1000000|0|web": b'0 {"service":"web","version":"v1"}',
        "l|2000000|0|web": b'1 {"service":"web","text":"down"}',
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"right": Alert}, "expected types that are not alike"),
        ({"before": timedelta(-1)}, "expected zero or more"),
        ({"entries_max": 0}, "entries_max=0"),
    ],
)
def test_joins_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        joined(**arguments)
    with pytest.raises(ConfigurationError, match="a retention of"):
        JoinedTable("t", fed_by=Change, retain=timedelta(-1))
