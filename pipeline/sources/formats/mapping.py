"""Any JSON to our events, by a declared mapping of dotted paths.

    JsonMapping(
        name="uptime", event_type="alert.fired", items="checks",
        fields={"service": "target.name", "alert": "=site down", "fingerprint": "check_id", "summary": "message"},
        timestamp="at", identity=("check_id", "at"),
    )

A path goes through objects by name and through lists by number (``checks.0.name``); ``=text`` stands for the text itself.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.sources.formats.admission import admitted_types
from pipeline.sources.formats.body import (
    MalformedBodyError,
    Reception,
    moment,
    parse_json,
    read_each,
    show,
)
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.registry import parse_payload


class JsonMapping(BaseModel):
    """How one sender's JSON becomes events of one type.

    Attributes:
        name: the last part of the door's address, ``/v1/json/{name}``.
        items: where the list of items is; empty when the body itself is the item or the list of them.
        fields: payload field -> path in the item.  An absent value leaves the field out.
        labels: label -> path in the item; any single value becomes text.
        timestamp: path of an RFC 3339 time; empty when the item has none: then it is the time of reception.
        identity: paths whose values together identify the item, so that the same item twice is one event; empty when there
            are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    event_type: str
    items: str = ""
    fields: dict[str, str] = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    timestamp: str = ""
    identity: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_its_event_type(self) -> Self:
        admitted = admitted_types()
        if self.event_type not in admitted:
            msg = f"event_type is {self.event_type!r}, expected one of {', '.join(sorted(admitted))}"
            raise ValueError(msg)
        known = admitted[self.event_type].model_fields.keys()
        if unknown := self.fields.keys() - known:
            msg = f"fields has {sorted(unknown)}, {self.event_type} has only {sorted(known)}"
            raise ValueError(msg)
        return self

    def read(self, raw: bytes, reception: Reception) -> list[Event[Payload]]:
        """The events of one body.

        Raises:
            BadInputError: names the first bad item and its field; nothing of the body is accepted then.
        """
        parsed = parse_json(raw)
        found = _at(parsed, self.items) if self.items else parsed
        if found is None:
            raise MalformedBodyError("nothing", "an object or a list of them", field=self.items)
        items = found if isinstance(found, list) else [found]
        return read_each(items, lambda item: self._event(item, reception), field=self.items)

    def _event(self, item: Any, reception: Reception) -> Event[Payload]:
        if not isinstance(item, dict):
            raise MalformedBodyError(show(item), "an object")
        data = {field: value for field, path in self.fields.items() if (value := _at(item, path)) is not None}
        labels = {label: _text(value) for label, path in self.labels.items() if (value := _at(item, path)) is not None}
        if labels:
            data["labels"] = (
                {**data.get("labels", {}), **labels} if isinstance(data.get("labels", {}), dict) else labels
            )
        identity = [_at(item, path) for path in self.identity]
        at = moment(_at(item, self.timestamp), field=self.timestamp) if self.timestamp else reception.at
        if None in identity:
            missing = self.identity[identity.index(None)]
            raise MalformedBodyError("nothing", "a value that identifies the item", field=missing)
        return Event(
            id=derived_id("json", self.name, *map(_text, identity)) if identity else reception.new_id(),
            timestamp=at,
            source=f"{reception.source}:{self.name}",
            payload=parse_payload(self.event_type, admitted_types()[self.event_type].version, data),
            metadata={"observed_at": reception.at.isoformat()},
        )


def _at(value: Any, path: str) -> Any:
    """What is at a dotted path; None where it leads nowhere."""
    if path.startswith("="):
        return path[1:]
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
