"""Reads many events in one go: JSON, the envelope, and each payload by its type, all within pydantic's core.

The way most events take.  It reads events of today as :func:`topology.codec.encode` writes them; the codec does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from topology.event import Event, Payload
from topology.moments import to_us
from topology.registry import registered, registrations

_UUID = core_schema.str_schema(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
_OPTIONAL_UUID = core_schema.with_default_schema(core_schema.nullable_schema(_UUID), default=None)

# Slots: events are frozen for everybody else.
_set_at_us = Event.at_us.__set__  # type: ignore[attr-defined]
_set_metadata = vars(Event)["metadata"].__set__
_moment = datetime.fromisoformat


def read_envelopes(raw: Sequence[bytes]) -> list[Event[Payload]]:
    """The events written one in each of ``raw``, in order.

    Raises:
        ValueError: one of them is not an event of today in its plain form; pydantic's ``ValidationError`` is one too.
    """
    joined = b"[%b]" % b",\n".join(raw)
    # JSON has no such numbers, but pydantic's reader takes them where no type forbids them.
    if b"NaN" in joined or b"Infinity" in joined:
        msg = "perhaps not JSON"
        raise ValueError(msg)
    # Else two halves of events, or one and a half, would be read as events where they happen to come together.
    if [one for one in raw if one[:1] != b"{" or one[-1:] != b"}"]:
        msg = "perhaps not one event each"
        raise ValueError(msg)
    read, later_versions = _reader(registrations())
    events = read(joined)
    if len(events) != len(raw):
        msg = f"found {len(events)} events in {len(raw)} records"
        raise ValueError(msg)
    for event in events:
        moment = _moment(event.timestamp_text)
        if moment.tzinfo is not UTC:
            msg = f"found {event.timestamp_text!r}, expected a moment in UTC"
            raise ValueError(msg)
        _set_at_us(event, to_us(moment))
        if event.metadata:
            _take_version(event)
        elif later_versions and event.payload.version != 1:
            _refuse_version(1, event.payload.version)
    return events


def _take_version(event: Event[Payload]) -> None:
    metadata = dict(event.metadata)
    found, expected = metadata.pop("schema_version", 1), event.payload.version
    if type(found) is not int or found != expected:
        _refuse_version(found, expected)
    _set_metadata(event, metadata)


def _refuse_version(found: object, expected: int) -> None:
    msg = f"found version {found!r}, expected {expected}"
    raise ValueError(msg)


@lru_cache(maxsize=1)
def _reader(registered_so_far: int) -> tuple[Callable[[bytes], list[Event[Payload]]], bool]:
    """A reader of JSON lists of events of all registered types, and whether any type is past its first version."""
    del registered_so_far  # what is cached goes by it
    definitions: dict[str, CoreSchema] = {}
    envelopes = {kind.event_type: _envelope(kind, definitions) for kind in registered()}
    schema: CoreSchema = core_schema.list_schema(core_schema.tagged_union_schema(envelopes, discriminator="event_type"))
    if definitions:
        schema = core_schema.definitions_schema(schema, list(definitions.values()))
    return SchemaValidator(schema).validate_json, any(kind.version != 1 for kind in registered())


def _envelope(kind: type[Payload], definitions: dict[str, CoreSchema]) -> CoreSchema:
    def field(attribute: str, name: str, schema: CoreSchema) -> core_schema.DataclassField:
        return core_schema.dataclass_field(attribute, schema, validation_alias=name)

    said = core_schema.dataclass_field("event_type", core_schema.literal_schema([kind.event_type]), init_only=True)
    fields = [
        field("id_text", "id", _UUID),
        field("timestamp_text", "timestamp", core_schema.str_schema()),
        field("source", "source", core_schema.str_schema()),
        field("payload", "payload", _inlined(kind.__pydantic_core_schema__, definitions)),
        field("correlation_text", "correlation_id", _OPTIONAL_UUID),
        field("causation_text", "causation_id", _OPTIONAL_UUID),
        field("metadata", "metadata", core_schema.with_default_schema(core_schema.dict_schema(), default_factory=dict)),
    ]
    arguments = core_schema.dataclass_args_schema("Event", [*fields, said], extra_behavior="forbid")
    return core_schema.dataclass_schema(Event, arguments, [each["name"] for each in fields], slots=True)


def _inlined(schema: Any, definitions: dict[str, CoreSchema]) -> CoreSchema:
    """A model's schema, with the definitions it refers to moved where all models of a reader share them."""
    if schema["type"] != "definitions":
        return schema  # type: ignore[no-any-return]
    definitions.update({definition["ref"]: definition for definition in schema["definitions"]})
    return _inlined(schema["schema"], definitions)
