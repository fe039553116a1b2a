"""The envelope every event travels in, and the class all payloads share.

Field for field the envelope of the requirement: id, timestamp, event_type, source, payload, correlation_id,
causation_id, metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from topology.moments import from_us, moment_text, to_us

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
    """What is worked out when it is first asked for, since of most events it never is.

    An event is made of ids and a moment, or, by the codec, of their texts and ``at_us``; either gives the other.
    """

    __slots__ = ("at_us", "causation_text", "correlation_text", "id_text", "timestamp_text")

    at_us: int
    """``timestamp`` in microseconds since the epoch."""
    id_text: str
    """``id`` as it is written."""
    correlation_text: str | None
    """``correlation_id`` as it is written."""
    causation_text: str | None
    """``causation_id`` as it is written."""
    timestamp_text: str
    """``timestamp`` as the codec writes it, or as it was written."""

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute then

        def __getattr__(self, name: str) -> Any:
            """Called for slots that are still empty."""
            work_out = _WORKED_OUT.get(name)
            if work_out is None:
                msg = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(msg, name=name, obj=self)
            value = work_out(self)
            object.__setattr__(self, name, value)
            return value


def _id_of(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _text_of(event_id: UUID | None) -> str | None:
    return None if event_id is None else str(event_id)


_WORKED_OUT: dict[str, Callable[[Event[Any]], Any]] = {
    "at_us": lambda event: to_us(event.timestamp),
    "timestamp": lambda event: from_us(event.at_us),
    "timestamp_text": lambda event: moment_text(event.timestamp),
    "id": lambda event: UUID(event.id_text),
    "id_text": lambda event: str(event.id),
    "correlation_id": lambda event: _id_of(event.correlation_text),
    "correlation_text": lambda event: _text_of(event.correlation_id),
    "causation_id": lambda event: _id_of(event.causation_text),
    "causation_text": lambda event: _text_of(event.causation_id),
}


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
