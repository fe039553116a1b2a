"""Whatever is written can be read again, and equal things are written equally."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.strategies import events, json_values, vocabulary
from topology.codec import NESTING_MAX, decode, decode_all, encode, encode_derived, from_json, written_moment
from topology.errors import BadInputError, InvalidEventError
from topology.event import Event, Payload

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
@pytest.mark.parametrize("depth", [1_000, 20_000])
def test_what_nests_too_deeply_is_refused_although_json_allows_it(field: str, depth: int) -> None:
    for form in (_nested(field, depth), _nested(field, depth).decode()):
        with pytest.raises(InvalidEventError):
            decode(form)


@pytest.mark.parametrize("field", ["payload", "metadata"])
def test_from_outside_less_nesting_is_accepted_than_can_be_written(field: str) -> None:
    with pytest.raises(InvalidEventError, match="nested more than 64 levels"):
        from_json(orjson.loads(_nested(field, NESTING_MAX + 1)))


@pytest.mark.parametrize("depth", [NESTING_MAX - 2, NESTING_MAX + 1, 190])
def test_what_is_read_can_be_written_again_however_deeply_it_nests(depth: int) -> None:
    event = decode(_nested("metadata", depth))
    assert decode(encode(event)) == event


def _nested(field: str, depth: int) -> bytes:
    deep = b"[" * depth + b"]" * depth
    return orjson.dumps({**_SMALL, field: {"deep": 0}}).replace(b'{"deep":0}', b'{"deep":%b}' % deep)


@given(st.lists(events(), min_size=1, max_size=5))
def test_many_are_read_as_each_of_them_is(some: list[Event[Payload]]) -> None:
    raw = [encode(event) for event in some]
    assume(not any(word in each for each in raw for word in (b"NaN", b"Infinity")))  # texts that say so are read singly
    assert decode_all(raw) == [_field_by_field(each) for each in raw] == some


@given(events(), st.binary(max_size=60))
def test_one_that_cannot_be_read_among_others_is_told_and_does_not_change_them(
    good: Event[Payload], bad: bytes
) -> None:
    with pytest.raises(InvalidEventError):
        decode_all([encode(good), bad, encode(good)])


@pytest.mark.parametrize("cut", [n for n, byte in enumerate(encode(decode(orjson.dumps(_SMALL)))) if byte == ord(",")])
def test_two_records_that_only_together_are_two_events_are_none(cut: int) -> None:
    event = encode(decode(orjson.dumps(_SMALL)))
    with pytest.raises(InvalidEventError):
        decode_all([event + b"," + event[:cut], event[cut + 1 :]])


@pytest.mark.parametrize(
    "change",
    [
        {"id": "9D25F79B-AA71-749E-8C39-C310049B2168"},
        {"timestamp": "2026-11-22T10:00:00+02:00"},
        {"metadata": None},
        {"metadata": {"schema_version": 1}},
    ],
)
def test_a_rare_form_is_read_one_at_a_time(change: dict[str, Any]) -> None:
    raw = orjson.dumps({**_SMALL, **change})
    assert decode(raw) == from_json({**_SMALL, **change})


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"Infinity"])
def test_a_number_json_does_not_have_is_refused(number: bytes) -> None:
    raw = orjson.dumps({**_SMALL, "metadata": {"x": 0}}).replace(b'{"x":0}', b'{"x":%b}' % number)
    with pytest.raises(InvalidEventError, match="no JSON"):
        decode(raw)


@given(events(), st.uuids(), st.text(min_size=1, max_size=20))
def test_what_follows_from_an_event_is_written_as_an_event_is(cause: Event[Payload], own: UUID, stage: str) -> None:
    derived = Event(
        id=own,
        timestamp=cause.timestamp,
        source=stage,
        payload=cause.payload,
        correlation_id=cause.correlation_id or cause.id,
        causation_id=cause.id,
    )
    for each in (cause, decode(encode(cause))):
        correlation = each.correlation_text or each.id_text
        written = encode_derived(str(own), written_moment(each), stage, each.payload, correlation, each.id_text)
        assert written == encode(derived)


def _field_by_field(raw: bytes) -> Event[Payload]:
    return from_json(orjson.loads(raw))


def test_the_strategies_know_every_event_type_of_the_product() -> None:
    assert {payload.event_type for payload in vocabulary()} >= {"metric.sampled", "incident.opened", "tick.passed"}
