"""Event types by name, and old versions that still replay."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import field_validator

from topology import registry
from topology.codec import decode, decode_all, encode
from topology.errors import BadInputError, InvalidEventError, UnknownEventTypeError
from topology.event import Payload
from topology.payloads import MetricSampled
from topology.registry import event_type, parse_payload, payload_class, registered, upcaster


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_payloads", dict(registry._payloads))
    monkeypatch.setattr(registry, "_upcasters", dict(registry._upcasters))


@pytest.fixture
def door_opened(own_registry: None) -> type[Payload]:
    """An event type in its third version, which knows the way from the first two."""

    @event_type("door.opened")
    class DoorOpened(Payload):
        """Version 1 said `who`; version 2 called it `by`; version 3 also says how many there were."""

        version = 3

        by: str
        people: int

    @upcaster("door.opened", from_version=1)
    def _called_by(data: dict[str, Any]) -> dict[str, Any]:
        return {"by": data.pop("who"), **data}

    @upcaster("door.opened", from_version=2)
    def _alone(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "people": 1}

    return DoorOpened


def _written(payload: dict[str, Any], version: int | None) -> bytes:
    return orjson.dumps(
        {
            "id": "00000000-0000-0000-0000-000000000001",
            "timestamp": "2026-11-22T14:02:07Z",
            "event_type": "door.opened",
            "source": "door",
            "payload": payload,
            "metadata": {"trace": "t"} | ({} if version is None else {"schema_version": version}),
        }
    )


@pytest.mark.parametrize(
    ("payload", "version"),
    [({"who": "Ada"}, None), ({"who": "Ada"}, 1), ({"by": "Ada"}, 2), ({"by": "Ada", "people": 1}, 3)],
)
def test_every_version_ever_written_reads_as_the_one_of_today(
    door_opened: type[Payload], payload: dict[str, Any], version: int | None
) -> None:
    event = decode(_written(payload, version))

    assert event.payload == door_opened.model_validate({"by": "Ada", "people": 1})
    assert event.metadata == {"trace": "t"}


@pytest.mark.parametrize(("payload", "version"), [({"who": "Ada"}, 1), ({"by": "Ada"}, 2)])
def test_what_was_read_from_an_old_version_is_written_as_the_new_one(
    door_opened: type[Payload], payload: dict[str, Any], version: int
) -> None:
    event = decode(_written(payload, version))
    written = orjson.loads(encode(event))

    assert written["metadata"]["schema_version"] == 3
    assert written["payload"] == {"by": "Ada", "people": 1}
    assert decode(encode(event)) == event


def test_a_version_of_a_newer_release_is_refused(door_opened: type[Payload]) -> None:
    with pytest.raises(UnknownEventTypeError, match=r"found version 4 of 'door.opened', expected 1 to 3") as refusal:
        decode(_written({"by": "Ada"}, 4))
    assert refusal.value.field == "metadata.schema_version"


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_refused(door_opened: type[Payload], version: int) -> None:
    with pytest.raises(UnknownEventTypeError):
        decode(_written({"by": "Ada"}, version))


@pytest.mark.parametrize("version", ["2", 2.0, True, [2]])
def test_a_version_that_is_no_whole_number_is_refused(door_opened: type[Payload], version: Any) -> None:
    with pytest.raises(InvalidEventError, match="schema_version"):
        decode(_written({"by": "Ada"}, version))


def test_a_missing_step_between_versions_is_named(door_opened: type[Payload]) -> None:
    del registry._upcasters["door.opened", 2]

    with pytest.raises(UnknownEventTypeError, match=r"no upcaster leads from version 2 of 'door.opened' to 3"):
        parse_payload("door.opened", 1, {"who": "Ada"})


def test_an_upcaster_leaves_the_data_it_was_given_alone(door_opened: type[Payload]) -> None:
    given = {"who": "Ada"}

    parse_payload("door.opened", 1, given)

    assert given == {"who": "Ada"}


@pytest.mark.usefixtures("own_registry")
def test_one_name_means_one_class() -> None:
    with pytest.raises(ValueError, match=r"'metric.sampled' is MetricSampled already"):

        @event_type("metric.sampled")
        class Another(Payload):
            pass


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownEventTypeError, match=r"found event type 'metric.sample', expected one of .*metric\.sampled"
    ):
        payload_class("metric.sample")


def test_bad_data_is_refused_with_every_field_that_is_wrong() -> None:
    with pytest.raises(BadInputError) as refusal:
        parse_payload("metric.sampled", 1, {"service": "", "metric": "cpu", "value": "much", "extra": 1})

    message = str(refusal.value)
    assert message.startswith("payload: ")
    assert all(field in message for field in ("service", "value", "extra"))
    assert "metric:" not in message


@pytest.mark.parametrize("value", ["NaN", "Infinity", float("nan"), float("inf")])
def test_a_value_that_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidEventError, match="finite"):
        parse_payload("metric.sampled", 1, {"service": "web", "metric": "cpu", "value": value})


def test_the_types_are_listed_by_name() -> None:
    names = [payload.event_type for payload in registered()]

    assert names == sorted(names)
    assert payload_class("metric.sampled") is MetricSampled


def test_what_an_upcaster_cannot_read_is_an_invalid_event(door_opened: type[Payload]) -> None:
    with pytest.raises(InvalidEventError, match=r"KeyError: 'who'") as refused:
        decode(_written({"by": "Ada"}, 1))
    assert refused.value.field == "payload"


@pytest.mark.usefixtures("own_registry")
def test_whatever_a_validator_raises_the_event_is_invalid() -> None:
    @event_type("door.opened")
    class Careless(Payload):
        by: str

        @field_validator("by")
        @classmethod
        def _known(cls, by: str) -> str:
            return {"Ada": "Ada Lovelace"}[by]

    assert decode(_written({"by": "Ada"}, None)).payload == Careless.model_construct(by="Ada Lovelace")
    with pytest.raises(InvalidEventError, match=r"KeyError: 'Eve'"):
        decode(_written({"by": "Eve"}, None))
    with pytest.raises(InvalidEventError):
        decode_all([_written({"by": "Ada"}, None), _written({"by": "Eve"}, None)])
