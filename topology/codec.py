"""Events as JSON bytes, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from topology.envelope import read_envelopes
from topology.errors import InvalidEventError
from topology.event import Event, JsonObject, Payload
from topology.moments import moment_text
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

_is_plain_moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(?!000000)\d{6})?Z", re.ASCII).fullmatch

_NO_METADATA: JsonObject = {}

NESTING_MAX = 64
"""Levels of lists and objects in a payload or in metadata from outside.

Much more could not be written again; of what we wrote, :func:`decode` takes all that its reader takes, which can be.
"""


def encode(event: Event[Payload]) -> bytes:
    """One line of JSON, fields in the requirement's order; equal events give equal bytes."""
    payload, metadata = event.payload, event.metadata
    if payload.version != metadata.get("schema_version", 1):
        # Also over a version that came in: an upcast payload is written in its form of today.
        metadata = {**metadata, "schema_version": payload.version}
    return orjson.dumps(
        {
            "id": event.id_text,
            "timestamp": event.timestamp,
            "event_type": payload.event_type,
            "source": event.source,
            "payload": orjson.Fragment(payload.__pydantic_serializer__.to_json(payload)),
            "correlation_id": event.correlation_text,
            "causation_id": event.causation_text,
            "metadata": metadata,
        },
        option=orjson.OPT_UTC_Z,
    )


def encode_derived(
    event_id: str,
    moment: str,
    source: str,
    payload: Payload,
    correlation: str,
    cause: str,
    metadata: JsonObject = _NO_METADATA,
) -> bytes:
    """What :func:`encode` makes of an event that follows from another, where nobody needs the event itself.

    Args:
        moment: as :func:`written_moment` gives it.
    """
    before, after = _frame(source, type(payload))
    if metadata:
        after = _written({**metadata, "schema_version": payload.version} if payload.version != 1 else metadata)
    head = f'{{"id":"{event_id}","timestamp":"{moment}",{before}'
    tail = f',"correlation_id":"{correlation}","causation_id":"{cause}","metadata":{after}}}'
    return head.encode() + payload.__pydantic_serializer__.to_json(payload) + tail.encode()


def written_moment(event: Event[Payload]) -> str:
    """The event's timestamp as :func:`encode` writes it, however it was written when it came."""
    text = event.timestamp_text
    return text if _is_plain_moment(text) else moment_text(event.timestamp)


def decode(raw: bytes | str) -> Event[Payload]:
    """Read what :func:`encode` wrote, of this or an older release.

    ``schema_version`` is not in the event's metadata: its payload is one of today, whatever it was written as.

    Raises:
        InvalidEventError: not JSON, or a field is missing, superfluous or of the wrong kind.
        UnknownEventTypeError: the event type or its version is not registered.
    """
    try:
        [event] = read_envelopes([raw.encode() if isinstance(raw, str) else raw])
    except Exception:  # noqa: BLE001 - a payload's validators may raise anything
        return _explained(raw)
    return event


def decode_all(raw: Sequence[bytes]) -> list[Event[Payload]]:
    """What :func:`decode` makes of each, in a third of the time.

    Raises:
        InvalidEventError: one of them cannot be decoded, or must be upcast; :func:`decode` tells which and why.
    """
    try:
        return read_envelopes(raw)
    except Exception as error:  # as above
        msg = f"found one among {len(raw)} events that cannot be read with the others, expected plain events of today"
        raise InvalidEventError(msg) from error


def _explained(raw: bytes | str) -> Event[Payload]:
    """Field by field: for events of older releases or of a rare form, and to say what is wrong with others."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        msg = f"found no JSON ({error}), expected one event as a JSON object"
        raise InvalidEventError(msg) from error
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
    return Event(
        id=_uuid(event_id, "id"),
        timestamp=_moment(moment),
        source=source,
        payload=parse_payload(kind, version, payload),
        correlation_id=_optional_uuid(data, "correlation_id"),
        causation_id=_optional_uuid(data, "causation_id"),
        metadata=metadata or {},
    )


def _wrong_field(data: dict[str, Any]) -> InvalidEventError:
    for name, kind in _KINDS.items():
        found = data.get(name)
        if not isinstance(found, kind) and not (name == "metadata" and found is None):
            what = "nothing" if name not in data else f"{found!r:.80}"
            return InvalidEventError(f"found {what}, expected {kind.__name__}", field=name)
    raise AssertionError


def _optional_uuid(data: dict[str, Any], name: str) -> UUID | None:
    found = data.get(name)
    if found is None:
        return None
    if not isinstance(found, str):
        msg = f"found {found!r:.80}, expected str"
        raise InvalidEventError(msg, field=name)
    return _uuid(found, name)


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        msg = f"found {text!r:.80}, expected a UUID"
        raise InvalidEventError(msg, field=name) from error


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


@lru_cache(maxsize=4096)
def _frame(source: str, payload_class: type[Payload]) -> tuple[str, str]:
    """Of a derived event's JSON what goes before the payload, and the metadata of one that has none of its own."""
    version = payload_class.version
    before = f'"event_type":{_written(payload_class.event_type)},"source":{_written(source)},"payload":'
    return before, _written({"schema_version": version} if version != 1 else {})


def _written(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()
