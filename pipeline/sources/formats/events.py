"""Our own envelope as JSON: one event, or a list of them.

``id`` and ``timestamp`` may be left out by those who have none (a shell script); such an event posted twice is two events.
"""

from __future__ import annotations

from typing import Any

from pipeline.sources.formats.admission import check_admitted
from pipeline.sources.formats.body import Reception, get, moment, parse_json, read_each
from topology.codec import from_json
from topology.errors import InvalidEventError
from topology.event import Event, Payload


def read(raw: bytes, reception: Reception) -> list[Event[Payload]]:
    """The events of a body.

    Raises:
        BadInputError: names the first bad event and its field; nothing of the body is accepted then.
    """
    parsed = parse_json(raw)
    if not isinstance(parsed, list):
        return [_event(parsed, reception)]
    return read_each(parsed, lambda item: _event(item, reception))


def _event(data: Any, reception: Reception) -> Event[Payload]:
    if not isinstance(data, dict):
        msg = f"found a JSON {type(data).__name__}, expected an event as an object"
        raise InvalidEventError(msg)
    check_admitted(data.get("event_type"), field="event_type")
    at = moment(data["timestamp"], field="timestamp") if "timestamp" in data else reception.at
    metadata = {**get(data, "metadata", dict, {}), "observed_at": reception.at.isoformat()}
    identity = data.get("id") or str(reception.new_id())
    return from_json({**data, "id": identity, "timestamp": at.isoformat(), "metadata": metadata})
