"""Events as JSON bytes, and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from topology.errors import InvalidEventError
from topology.event import Event, Payload, event_of_texts
from topology.registry import parse_payload

_FIELDS = frozenset(
    {"id", "timestamp", "event_type", "source", "payload", "correlation_id", "causation_id", "metadata"}
)

_is_plain_uuid = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch

NESTING_MAX = 64
"""Levels of lists and objects in a payload or in metadata; what nests deeper could be read, but never written again."""


def encode(event: Event[Payload]) -> bytes:
    """One line of JSON, fields in the requirement's order; equal events give equal bytes."""
    payload = event.payload
    metadata = event.metadata
    if payload.version != metadata.get("schema_version", 1):
        # Also over a version that came in: an upcast payload is written in its form of today.
        metadata = {**metadata, "schema_version": payload.version}
    return orjson.dumps(
        {
            "id": event.id,
            "timestamp": event.timestamp,
            "event_type": payload.event_type,
            "source": event.source,
            "payload": orjson.Fragment(payload.__pydantic_serializer__.to_json(payload)),
            "correlation_id": event.correlation_id,
            "causation_id": event.causation_id,
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
    payload = _field(data, "payload", dict)
    metadata = dict(_field(data, "metadata", dict)) if data.get("metadata") is not None else {}
    version = metadata.pop("schema_version", 1) if metadata else 1
    if type(version) is not int:
        msg = f"found {version!r}, expected a whole number"
        raise InvalidEventError(msg, field="metadata.schema_version")
    return event_of_texts(
        (
            _uuid_text(data, "id"),
            _uuid_text(data, "correlation_id") if data.get("correlation_id") is not None else None,
            _uuid_text(data, "causation_id") if data.get("causation_id") is not None else None,
        ),
        _moment(data, "timestamp"),
        _field(data, "source", str),
        parse_payload(_field(data, "event_type", str), version, payload),
        metadata,
    )


def _field(data: dict[str, Any], name: str, kind: type) -> Any:
    found = data.get(name)
    if not isinstance(found, kind):
        what = "nothing" if name not in data else f"{found!r:.80}"
        msg = f"found {what}, expected {kind.__name__}"
        raise InvalidEventError(msg, field=name)
    return found


def _uuid_text(data: dict[str, Any], name: str) -> str:
    text: str = _field(data, name, str)
    if not _is_plain_uuid(text):
        try:
            UUID(text)
        except ValueError as error:
            msg = f"found {text!r:.80}, expected a UUID"
            raise InvalidEventError(msg, field=name) from error
    return text


def _moment(data: dict[str, Any], name: str) -> datetime:
    text = _field(data, name, str)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"found {text!r:.80}, expected an ISO 8601 date and time"
        raise InvalidEventError(msg, field=name) from error
    if moment.tzinfo is None:
        msg = f"found {text!r} without a time zone, expected one (for example a trailing Z)"
        raise InvalidEventError(msg, field=name)
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        msg = f"found {text!r}, expected a moment whose year is 1 to 9999 in UTC"
        raise InvalidEventError(msg, field=name) from error


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
