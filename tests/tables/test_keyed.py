"""Values by key: what an agent keeps in mind between two events."""

from __future__ import annotations

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
        assert one.evicted == 1
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


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="keys_max=0"):
        Keyed("t", value=OpenIncident, keys_max=0)
