"""Values by key: what an agent keeps in mind between two events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from tables.keyed import Keyed, KeyedState
from topology.errors import ConfigurationError


class OpenIncident(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: str
    alerts: tuple[str, ...] = ()


class Correlator:
    open_incidents = Keyed("open_incidents", value=OpenIncident, keys_max=3)

    def __init__(self) -> None:
        self._tables: dict[str, Any] = {"open_incidents": type(self).open_incidents.bind()}


def restored(state: KeyedState[OpenIncident]) -> KeyedState[OpenIncident]:
    other = Correlator.open_incidents.bind()
    other.restore(state.snapshot())
    return other


def test_what_was_put_is_got_back() -> None:
    state = Correlator().open_incidents
    state.put("ledger", OpenIncident(id="7"))
    assert state.get("ledger") == OpenIncident(id="7")
    assert "ledger" in state
    assert len(state) == 1
    assert state.get("other") is None


def test_what_was_deleted_is_gone_and_its_row_too() -> None:
    state = Correlator().open_incidents
    state.put("ledger", OpenIncident(id="7"))
    state.changes()
    state.delete("ledger")
    state.delete("never-there")
    assert state.changes() == {"ledger": None}
    assert state.items() == []


def test_models_survive_a_restart_with_their_types_and_their_order() -> None:
    state = Correlator().open_incidents
    for key in ("b", "a", "c"):
        state.put(key, OpenIncident(id=key, alerts=("x", "y")))
    state.put("b", OpenIncident(id="b2"))
    assert [key for key, _ in state.items()] == ["a", "c", "b"]
    assert restored(state).items() == state.items()


def test_beyond_the_limit_the_least_recently_put_goes_also_after_a_restart() -> None:
    state = Correlator().open_incidents
    for key in ("a", "b", "c", "a"):
        state.put(key, OpenIncident(id=key))
    for one in (restored(state), state):
        one.put("d", OpenIncident(id="d"))
        assert [key for key, _ in one.items()] == ["c", "a", "d"]
        assert one.evicted == {"keys_max": 1}
    assert state.changes()["b"] is None


def test_rows_can_be_read_by_people() -> None:
    state = Correlator().open_incidents
    state.put("ledger", OpenIncident(id="7"))
    assert state.changes() == {"ledger": b'1 {"id":"7","alerts":[]}'}


def test_plain_json_needs_no_model() -> None:
    state = Keyed("seen", value=dict[str, list[int]]).bind()
    state.put("a", {"x": [1]})
    other = Keyed("seen", value=dict[str, list[int]]).bind()
    other.restore(state.snapshot())
    assert other.get("a") == {"x": [1]}


def test_values_may_be_none() -> None:
    state = Keyed("seen", value=object).bind()
    state.put("a", None)
    state.delete("a")
    assert state.changes() == {"a": None}


def test_windows_and_lateness_do_not_concern_it() -> None:
    state = Correlator().open_incidents
    assert state.advance(10**18) == []
    assert state.take_late() == []


def test_values_are_dropped_when_they_were_put_as_long_ago_as_they_are_retained() -> None:
    declared = Keyed("seen", value=int, retain=timedelta(microseconds=10))
    state = declared.bind()
    for key, at_us in (("a", 1), ("b", 2), ("a", 5)):
        state.put(key, at_us, at_us)
    assert state.changes() == {"a": b"3@5 5", "b": b"2@2 2"}
    state.advance(11)
    assert len(state) == 2
    after = declared.bind()
    after.restore(state.snapshot())
    for one in (state, after):
        one.advance(12)
        assert one.items() == [("a", 5)]
        assert one.evicted == {"keys_max": 0, "retain": 1}
        assert one.changes() == {"b": None}


def test_a_value_that_is_retained_for_a_time_needs_one() -> None:
    with pytest.raises(TypeError, match="pass at_us"):
        Keyed("seen", value=int, retain=timedelta(1)).bind().put("a", 1)
    with pytest.raises(ConfigurationError, match="a retention of -1 day"):
        Keyed("seen", value=int, retain=timedelta(-1))


def test_putting_again_and_again_leaves_nothing_behind() -> None:
    state = Keyed("seen", value=int, retain=timedelta(1)).bind()
    for at_us in range(1_000):
        state.put("a", at_us, at_us)
    assert len(state._expiring) < 200


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="keys_max=0"):
        Keyed("t", value=OpenIncident, keys_max=0)
