"""A record as one line of JSON, as archives and recordings have it: the event stands in it byte for byte."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import orjson

_EVENT = b',"event":'
"""What stands before an event; it cannot be part of a JSON string, whose quotes are escaped."""


def encode_line(about: Mapping[str, Any], value: bytes) -> bytes:
    """The line of an event.

    Args:
        about: where the event lies and what it is; at least one field, none of them ``event`` or ``raw``.
        value: the event as it is stored, whether it can be understood or not.
    """
    if b"\n" not in value and _is_json(value):
        # As stored, byte for byte: what is read back must not differ from what the stages saw.
        return orjson.dumps(about)[:-1] + _EVENT + value + b"}\n"
    return orjson.dumps({**about, "raw": b64encode(value).decode()}) + b"\n"


def decode_line(line: bytes) -> tuple[dict[str, Any], bytes]:
    """What a line says about its event, and the event; the line comes without its end.

    Raises:
        ValueError, KeyError, TypeError: the line is not of this form.
    """
    about, found, event = line.partition(_EVENT)
    fields = orjson.loads(about + b"}" if found else line)
    return fields, event[:-1] if found else b64decode(fields["raw"], validate=True)


def _is_json(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True
