"""What the engine itself says on the streams."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from topology.event import Payload
from topology.registry import event_type


@event_type("tick.passed")
class TickPassed(Payload):
    """Time has passed; put into every partition of streams that declare ``ticks``, so that replay sees timers too."""


@event_type("answer.recorded")
class AnswerRecorded(Payload):
    """The world answered a question (Law 4): kept so that a redelivery or a replay gets the same answer."""

    stage: str
    event: UUID
    question: str
    """Names the question: the event, its class and its digest."""
    answer: Any


@event_type("entry.came-late")
class EntryCameLate(Payload):
    """An event came after the window it belongs to was closed."""

    stage: str
    table: str
    key: str
    event: UUID | None = None


@event_type("event.dead-lettered")
class EventDeadLettered(Payload):
    """An event could not be processed; it is kept here with the reason.

    ``event`` is the original as text: it may be the very thing that cannot be decoded.
    """

    stage: str
    stream: str
    partition: int
    offset: str
    key: str
    attempts: int
    error: str
    reason: str
    event: str
