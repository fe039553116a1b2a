"""CloudEvents 1.0, in (structured, batch and binary mode) and out (structured).

A CloudEvent's ``type`` is one of our event types, or the same with ``com.aiops.`` in front; its ``data`` is the payload.
``subject`` names the service when the data does not.  Data fields that the payload does not have become labels when they
are single values, so that a sender may say more than we know; anything else unknown is refused.

``source`` and ``id`` together identify a CloudEvent, so our id is derived from them: sent twice, it is one event.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from pipeline.sources.formats.admission import admitted_types, check_admitted
from pipeline.sources.formats.body import (
    MalformedBodyError,
    Reception,
    get,
    moment,
    naming,
    parse_json,
    read_each,
    show,
    texts,
)
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.registry import parse_payload

TYPE_PREFIX = "com.aiops."
HEADER_PREFIX = "ce-"
_CARRIED_ON = ("traceparent", "tracestate", "partitionkey", "dataschema")
"""Attributes that no field of ours says, kept in the metadata."""


def read(raw: bytes, reception: Reception) -> list[Event[Payload]]:
    """The events of a structured body (an object) or a batch (a list).

    Raises:
        BadInputError: names the first bad event and its attribute; nothing of the body is accepted then.
    """
    parsed = parse_json(raw)
    if not isinstance(parsed, list):
        return [_event(parsed, reception)]
    return read_each(parsed, lambda item: _event(item, reception))


def read_binary(headers: Mapping[str, str], raw: bytes, reception: Reception) -> list[Event[Payload]]:
    """The one event of an HTTP request in binary mode: attributes in ``ce-`` headers (lower case), data in the body.

    Raises:
        BadInputError: names the bad attribute.
    """
    attributes: dict[str, Any] = {
        name.removeprefix(HEADER_PREFIX): unquote(value)
        for name, value in headers.items()
        if name.startswith(HEADER_PREFIX)
    }
    with naming("data"):
        attributes["data"] = parse_json(raw) if raw else {}
    return [_event(attributes, reception)]


def write(event: Event[Payload]) -> bytes:
    """One event as a CloudEvent in structured mode."""
    payload = event.payload
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": TYPE_PREFIX + event.event_type,
        "time": event.timestamp,
        "datacontenttype": "application/json",
        "schemaversion": payload.version,
    }
    if service := getattr(payload, "service", ""):
        attributes["subject"] = service
    if event.correlation_id is not None:
        attributes["correlationid"] = event.correlation_id
    if event.causation_id is not None:
        attributes["causationid"] = event.causation_id
    attributes["data"] = orjson.Fragment(payload.model_dump_json())
    return orjson.dumps(attributes, option=orjson.OPT_UTC_Z)


def _event(attributes: Any, reception: Reception) -> Event[Payload]:
    if not isinstance(attributes, dict):
        raise MalformedBodyError(f"a JSON {type(attributes).__name__}", "a CloudEvent as an object")
    if attributes.get("specversion") != "1.0":
        raise MalformedBodyError(show(attributes.get("specversion")), "'1.0'", field="specversion")
    identity, source = _attribute(attributes, "id"), _attribute(attributes, "source")
    name = check_admitted(_attribute(attributes, "type").removeprefix(TYPE_PREFIX), field="type")
    data = _with_labels(name, _data(attributes))
    if not data.get("service") and attributes.get("subject"):
        data["service"] = _attribute(attributes, "subject")
    at = moment(attributes["time"], field="time") if attributes.get("time") is not None else reception.at
    metadata = {"observed_at": reception.at.isoformat()}
    metadata |= {name: _attribute(attributes, name) for name in _CARRIED_ON if attributes.get(name) is not None}
    return Event(
        id=derived_id("cloudevents", source, identity),
        timestamp=at,
        source=source,
        payload=parse_payload(name, _schema_version(attributes), data),
        metadata=metadata,
    )


def _attribute(attributes: Mapping[str, Any], name: str) -> str:
    text = get(attributes, name, str)
    if not text:
        raise MalformedBodyError("an empty text", "one that is not empty", field=name)
    return text


def _schema_version(attributes: Mapping[str, Any]) -> int:
    found = attributes.get("schemaversion", 1)  # text in binary mode: headers know no numbers
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 10:
        return int(found)
    if type(found) is not int:
        raise MalformedBodyError(show(found), "a whole number", field="schemaversion")
    return found


def _data(attributes: Mapping[str, Any]) -> dict[str, Any]:
    content_type = get(attributes, "datacontenttype", str, "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise MalformedBodyError(show(content_type), "application/json", field="datacontenttype")
    if attributes.get("data_base64") is not None:
        encoded = get(attributes, "data_base64", str)
        with naming("data_base64"):
            return _object(parse_json(_from_base64(encoded)))
    with naming("data"):
        return _object(attributes.get("data", {}))


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise MalformedBodyError(show(text), "base64") from error


def _object(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MalformedBodyError(show(data), "an object")
    return dict(data)


def _with_labels(event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    known = admitted_types()[event_type].model_fields
    extra = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in data.items()
        if name not in known and isinstance(value, str | int | float | bool)
    }
    if not extra:
        return data
    with naming("data"):
        labels = texts(data, "labels")
    return {name: value for name, value in data.items() if name not in extra} | {"labels": {**extra, **labels}}
