"""Whatever is written can be read again, and equal things are written equally."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import events, json_values, vocabulary
from topology.codec import NESTING_MAX, decode, encode, from_json
from topology.errors import BadInputError, InvalidEventError
from topology.event import Event

_SMALL: dict[str, Any] = {
    "id": "00000000-0000-0000-0000-000000000001",
    "timestamp": "2026-11-22T14:02:07Z",
    "event_type": "tick.passed",
    "source": "engine",
    "payload": {},
}


@given(events())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_every_event_reads_back_as_it_was_written(event: Event[Any]) -> None:
    assert decode(encode(event)) == event


@given(events())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_an_event_is_written_in_one_way_only(event: Event[Any]) -> None:
    once = encode(event)
    assert encode(decode(once)) == once
    assert b"\n" not in once
    assert list(orjson.loads(once)) == [
        "id",
        "timestamp",
        "event_type",
        "source",
        "payload",
        "correlation_id",
        "causation_id",
        "metadata",
    ]


@given(st.binary(max_size=60) | json_values(10).map(orjson.dumps))
def test_no_input_breaks_the_reader_in_another_way_than_by_refusal(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        decode(raw)


@given(events(), st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_field_is_refused_or_still_an_event(event: Event[Any], data: st.DataObject) -> None:
    written = orjson.loads(encode(event))
    field = data.draw(st.sampled_from(sorted(written)))
    inside = written["payload"] if field == "payload" and written["payload"] else written
    victim = data.draw(st.sampled_from(sorted(inside)))
    inside[victim] = data.draw(json_values(3))
    try:
        read = from_json(written)
    except BadInputError:
        return
    assert decode(encode(read)) == read


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "2026-11-22", "soon", ""])
def test_a_moment_that_is_none_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidEventError, match=r"^timestamp: found"):
        from_json({**_SMALL, "timestamp": text})


@pytest.mark.parametrize("field", ["payload", "metadata"])
@pytest.mark.parametrize("depth", [NESTING_MAX + 1, 1_000, 20_000])
def test_what_nests_too_deeply_is_refused_although_json_allows_it(field: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    raw = orjson.dumps({**_SMALL, field: {"deep": 0}}).replace(b'{"deep":0}', b'{"deep":%b}' % deep)
    for form in (raw, raw.decode()):
        with pytest.raises(InvalidEventError):
            decode(form)


def test_what_just_does_not_nest_too_deeply_is_read_and_written() -> None:
    deep = b"[" * (NESTING_MAX - 2) + b"]" * (NESTING_MAX - 2)
    raw = orjson.dumps({**_SMALL, "metadata": {"deep": 0}}).replace(b'{"deep":0}', b'{"deep":%b}' % deep)
    assert decode(encode(decode(raw))) == decode(raw)


def test_the_strategies_know_every_event_type_of_the_product() -> None:
    assert {payload.event_type for payload in vocabulary()} >= {"metric.sampled", "incident.opened", "tick.passed"}
