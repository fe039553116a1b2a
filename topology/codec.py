"""Events as JSON bytes, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from topology.errors import InvalidEventError
from topology.event import Event, JsonObject, Payload, event_of_texts
from topology.registry import parse_payload

_FIELDS = frozenset(
    {"id", "timestamp", "event_type", "source", "payload", "correlation_id", "causation_id", "metadata"}
)

_KINDS: dict[str, type] = {
    "payload": dict,
    "metadata": dict,
    "id": str,
    "timestamp": str,
    "source": str,
    "event_type": str,
}

_is_plain_uuid = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch

NESTING_MAX = 64
"""Levels of lists and objects in a payload or in metadata; what nests deeper could be read, but never written again."""


def encode(event: Event[Payload]) -> bytes:
    """One line of JSON, fields in the requirement's order; equal events give equal bytes."""
    return encode_parts(
        event.id,
        event.timestamp,
        event.source,
        event.payload,
        event.correlation_id,
        event.causation_id,
        event.metadata,
    )


def encode_parts(
    event_id: UUID,
    timestamp: datetime,
    source: str,
    payload: Payload,
    correlation_id: UUID | None,
    causation_id: UUID | None,
    metadata: JsonObject,
) -> bytes:
    """What :func:`encode` makes of the event with these fields, where nobody needs the event itself."""
    if payload.version != metadata.get("schema_version", 1):
        # Also over a version that came in: an upcast payload is written in its form of today.
        metadata = {**metadata, "schema_version": payload.version}
    return orjson.dumps(
        {
            "id": event_id,
            "timestamp": timestamp,
            "event_type": payload.event_type,
            "source": source,
            "payload": orjson.Fragment(payload.__pydantic_serializer__.to_json(payload)),
            "correlation_id": correlation_id,
            "causation_id": causation_id,
            "metadata": metadata,
        },
        option=orjson.OPT_UTC_Z,
    )


def decode(raw: bytes | str) -> Event[Payload]:
    """Read what :func:`encode` wrote, of this or an older release.

    ``schema_version`` is not in the event's metadata: its payload is one of today, whatever it was written as.

    Raises:
        InvalidEventError: not JSON, or a field is missing, superfluous or of the wrong kind.
        UnknownEventTypeError: the event type or its version is not registered.
    """
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        msg = f"found no JSON ({error}), expected one event as a JSON object"
        raise InvalidEventError(msg) from error
    # So few brackets cannot nest too deeply; counting them is much faster than looking.
    if isinstance(raw, bytes) and raw.count(b"{") + raw.count(b"[") <= NESTING_MAX:
        return _event(data)
    return from_json(data)


def from_json(data: object) -> Event[Payload]:
    """The event of an already parsed JSON object; raises as :func:`decode` does."""
    for name in ("payload", "metadata"):
        if isinstance(data, dict) and _nests_too_deeply(data.get(name)):
            msg = f"found lists or objects nested more than {NESTING_MAX} levels deep, expected fewer"
            raise InvalidEventError(msg, field=name)
    return _event(data)


def _event(data: object) -> Event[Payload]:
    if not isinstance(data, dict):
        msg = f"found a JSON {type(data).__name__}, expected an object"
        raise InvalidEventError(msg)
    if not data.keys() <= _FIELDS:
        msg = f"found unknown fields {sorted(data.keys() - _FIELDS)}, expected only {sorted(_FIELDS)}"
        raise InvalidEventError(msg)
    get = data.get
    payload, source, kind, moment, event_id = (
        get("payload"),
        get("source"),
        get("event_type"),
        get("timestamp"),
        get("id"),
    )
    if not (
        isinstance(payload, dict)
        and isinstance(source, str)
        and isinstance(kind, str)
        and isinstance(moment, str)
        and isinstance(event_id, str)
    ):
        raise _wrong_field(data)
    metadata = get("metadata")
    version = 1
    if metadata is not None and not isinstance(metadata, dict):
        raise _wrong_field(data)
    if metadata:
        metadata = dict(metadata)
        version = metadata.pop("schema_version", 1)
        if type(version) is not int:
            msg = f"found {version!r}, expected a whole number"
            raise InvalidEventError(msg, field="metadata.schema_version")
    return event_of_texts(
        (_uuid_text(event_id, "id"), _optional_uuid(data, "correlation_id"), _optional_uuid(data, "causation_id")),
        _moment(moment),
        source,
        parse_payload(kind, version, payload),
        metadata or {},
    )


def _wrong_field(data: dict[str, Any]) -> InvalidEventError:
    for name, kind in _KINDS.items():
        found = data.get(name)
        if not isinstance(found, kind) and not (name == "metadata" and found is None):
            what = "nothing" if name not in data else f"{found!r:.80}"
            return InvalidEventError(f"found {what}, expected {kind.__name__}", field=name)
    raise AssertionError


def _optional_uuid(data: dict[str, Any], name: str) -> str | None:
    found = data.get(name)
    if found is None:
        return None
    if not isinstance(found, str):
        msg = f"found {found!r:.80}, expected str"
        raise InvalidEventError(msg, field=name)
    return _uuid_text(found, name)


def _uuid_text(text: str, name: str) -> str:
    if not _is_plain_uuid(text):
        try:
            UUID(text)
        except ValueError as error:
            msg = f"found {text!r:.80}, expected a UUID"
            raise InvalidEventError(msg, field=name) from error
    return text


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"found {text!r:.80}, expected an ISO 8601 date and time"
        raise InvalidEventError(msg, field="timestamp") from error
    if moment.tzinfo is None:
        msg = f"found {text!r} without a time zone, expected one (for example a trailing Z)"
        raise InvalidEventError(msg, field="timestamp")
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        msg = f"found {text!r}, expected a moment whose year is 1 to 9999 in UTC"
        raise InvalidEventError(msg, field="timestamp") from error


def _nests_too_deeply(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
