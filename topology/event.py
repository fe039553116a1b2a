"""The envelope every event travels in, and the class all payloads share.

Field for field the envelope of the requirement: id, timestamp, event_type, source, payload, correlation_id,
causation_id, metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from topology.moments import to_us

JsonObject = Mapping[str, Any]


class Payload(BaseModel):
    """What one event type says: frozen, closed, versioned.

    A payload class never changes its meaning.  When its fields must change, raise ``version`` and register an upcaster
    (``topology.registry``), so that every old recording still replays.

    Numbers are finite: JSON has no NaN, so what could be written with one could not be read again.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ser_json_timedelta="float", ser_json_inf_nan="null"
    )

    event_type: ClassVar[str]
    version: ClassVar[int] = 1


P = TypeVar("P", bound=Payload)
P_co = TypeVar("P_co", bound=Payload, covariant=True)


class _WorkedOut:
    """What an event works out when it is first asked, since most events are not: ids from their text, and ``at_us``."""

    __slots__ = ("_texts", "at_us")

    at_us: int
    """``timestamp`` in microseconds since the epoch."""

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute then

        def __getattr__(self, name: str) -> Any:
            """Called for slots that are still empty."""
            if name == "at_us":
                value = to_us(self.timestamp)
            elif name in _IDS:
                value = UUID(self._texts[_IDS.index(name)])
            else:
                msg = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(msg, name=name, obj=self)
            object.__setattr__(self, name, value)
            return value


_IDS = ("id", "correlation_id", "causation_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(_WorkedOut, Generic[P_co]):
    """Something that happened.

    Attributes:
        id: random at the door, derived from its cause everywhere after it.
        timestamp: when it happened (event time, UTC), not when we heard of it.
        source: who says so: a source's or a stage's id.
        correlation_id: the first event of the story this one belongs to.
        causation_id: the event that directly led to this one; None at the door.
        metadata: ``observed_at``, trace context, signature; never business data.  On the wire also ``schema_version``,
            where it is not 1.
    """

    id: UUID
    timestamp: datetime
    source: str
    payload: P_co
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    metadata: JsonObject = field(default_factory=dict)

    @property
    def event_type(self) -> str:
        """The registered name of the payload's class."""
        return self.payload.event_type


_empty: Any = object.__new__
_set_timestamp, _set_source, _set_payload, _set_metadata, _set_texts, _set_correlation_id, _set_causation_id = (
    getattr(Event, name).__set__
    for name in ("timestamp", "source", "payload", "metadata", "_texts", "correlation_id", "causation_id")
)


def event_of_texts(
    ids: tuple[str, str | None, str | None], timestamp: datetime, source: str, payload: P, metadata: JsonObject
) -> Event[P]:
    """An event whose ids are only parsed when they are asked for, and that is made several times faster than others.

    Args:
        ids: texts of valid UUIDs for ``id``, ``correlation_id`` and ``causation_id``.
    """
    event: Event[P] = _empty(Event)
    _set_texts(event, ids)
    _set_timestamp(event, timestamp)
    _set_source(event, source)
    _set_payload(event, payload)
    _set_metadata(event, metadata)
    _, correlation_id, causation_id = ids
    if correlation_id is None:
        _set_correlation_id(event, None)
    if causation_id is None:
        _set_causation_id(event, None)
    return event
