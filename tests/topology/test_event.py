"""The envelope and the payloads: values that nobody changes."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from pydantic import ValidationError

from tests.strategies import events, payloads, vocabulary
from topology.codec import decode, encode, from_json
from topology.errors import InvalidEventError
from topology.event import Event, Payload
from topology.payloads import ActionRequest, IncidentOpened, LogWritten, MetricSampled, PlanProposed, Symptom

AT = datetime(2026, 11, 22, 14, 2, 7, 123456, tzinfo=UTC)


def _event(**changes: Any) -> Event[LogWritten]:
    fields = {"id": UUID(int=1), "timestamp": AT, "source": "logs", "payload": LogWritten(service="web", message="hi")}
    return Event(**{**fields, **changes})


def test_an_event_is_written_as_the_requirement_has_it() -> None:
    assert encode(_event(correlation_id=UUID(int=2), metadata={"trace": "t"})) == (
        b'{"id":"00000000-0000-0000-0000-000000000001","timestamp":"2026-11-22T14:02:07.123456Z",'
        b'"event_type":"log.written","source":"logs",'
        b'"payload":{"service":"web","system":"","labels":{},"message":"hi","level":"info","logger":"","origin":""},'
        b'"correlation_id":"00000000-0000-0000-0000-000000000002","causation_id":null,"metadata":{"trace":"t"}}'
    )


def test_an_event_knows_its_type_and_its_time_in_microseconds() -> None:
    assert _event().event_type == "log.written"
    assert _event().at_us == 1_795_356_127_123_456


def test_an_event_cannot_be_changed() -> None:
    event = _event()

    with pytest.raises(FrozenInstanceError):
        event.source = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        event.payload.message = "other"  # type: ignore[misc]


def test_times_of_other_zones_are_read_as_utc() -> None:
    written = orjson.loads(encode(_event()))

    read = from_json({**written, "timestamp": "2026-11-22T15:02:07.123456+01:00"})

    assert read.timestamp == AT
    assert read.timestamp.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "id: found None, expected str"),
        ({"id": "seven"}, "id: found 'seven', expected a UUID"),
        ({"source": 1}, "source: found 1, expected str"),
        ({"payload": []}, "payload: found [], expected dict"),
        ({"metadata": "x"}, "metadata: found 'x', expected dict"),
        ({"metadata": []}, "metadata: found [], expected dict"),
        ({"causation_id": "x"}, "causation_id: found 'x', expected a UUID"),
        ({"eventType": "x"}, "found unknown fields ['eventType'], expected only ["),
    ],
)
def test_a_wrong_envelope_is_refused_by_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEventError) as refusal:
        from_json({**orjson.loads(encode(_event())), **changes})

    assert str(refusal.value).startswith(message)


@given(events())
def test_an_event_that_was_read_is_like_any_other(event: Event[Payload]) -> None:
    written = encode(event)

    assert decode(written) == event
    assert replace(decode(written), source="other") == replace(event, source="other")
    assert pickle.loads(pickle.dumps(decode(written))) == event  # noqa: S301 - our own
    assert decode(written).at_us == event.at_us
    assert repr(event.id) in repr(decode(written))


def test_an_event_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="'Event' object has no attribute 'subject'"):
        _event().subject  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("field", ["id", "timestamp", "event_type", "source", "payload"])
def test_a_missing_field_is_named(field: str) -> None:
    written = orjson.loads(encode(_event()))
    del written[field]

    with pytest.raises(InvalidEventError, match=f"^{field}: found nothing"):
        from_json(written)


@pytest.mark.parametrize("data", [None, 1, "x", [], [{}]])
def test_what_is_no_object_is_no_event(data: object) -> None:
    with pytest.raises(InvalidEventError, match="expected an object"):
        from_json(data)


@pytest.mark.parametrize("payload", vocabulary(), ids=lambda payload: payload.event_type)
def test_every_payload_says_what_it_means_and_refuses_what_it_does_not_know(payload: type[Payload]) -> None:
    assert payload.__doc__
    assert payload.model_config["frozen"]
    assert payload.model_config["extra"] == "forbid"
    assert payload.event_type.count(".") == 1
    assert payload.event_type == payload.event_type.lower()


@given(events(of=MetricSampled))
def test_the_strategies_make_the_events_they_are_asked_for(event: Event[MetricSampled]) -> None:
    assert isinstance(event.payload, MetricSampled)


@given(payloads(ActionRequest))
def test_equal_requests_have_equal_digests_whatever_the_order_of_their_parameters(request: ActionRequest) -> None:
    turned = request.model_copy(update={"parameters": dict(reversed(list(request.parameters.items())))})

    assert request.digest == turned.digest
    assert len(request.digest) == 64


@given(payloads(PlanProposed))
def test_a_digest_survives_the_way_over_the_wire(plan: PlanProposed) -> None:
    assert PlanProposed.model_validate_json(plan.model_dump_json()).request.digest == plan.request.digest


def test_another_target_is_another_digest() -> None:
    one = ActionRequest(executor="process", operation="restart", target="web")

    assert one.digest != one.model_copy(update={"target": "store"}).digest


def test_an_incident_knows_which_symptoms_last() -> None:
    gone = Symptom(service="web", kind="health.refused", seen_at=AT, cleared_at=AT)
    lasting = Symptom(service="web", kind="latency.high", seen_at=AT)
    incident = IncidentOpened(
        incident=UUID(int=1), system="shop", title="", severity="high", opened_at=AT, symptoms=(gone, lasting)
    )

    assert incident.open_symptoms == (lasting,)
