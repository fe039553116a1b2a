"""The envelope every event travels in, and the class all payloads share.

Field for field the envelope of the requirement: id, timestamp, event_type, source, payload, correlation_id,
causation_id, metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar
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


P_co = TypeVar("P_co", bound=Payload, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Generic[P_co]):
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

    @property
    def at_us(self) -> int:
        """``timestamp`` in microseconds since the epoch."""
        return to_us(self.timestamp)
