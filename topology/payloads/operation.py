"""What the engine itself says on the streams."""

from __future__ import annotations

from collections.abc import Mapping
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


@event_type("events.shed")
class EventsShed(Payload):
    """A stage fell too far behind, and passed events over, as its topology has it.

    Attributes:
        lag_max: how many events may wait before any is shed.
        counts: how many were shed of each event type.
        offsets: where they lie, as ``first..last`` of runs; the stage processed nothing between the two.
    """

    stage: str
    stream: str
    partition: int
    lag_max: int
    counts: Mapping[str, int]
    offsets: tuple[str, ...]


@event_type("event.dead-lettered")
class EventDeadLettered(Payload):
    """An event could not be processed; it is kept here with the reason.

    ``event`` is the original as text: it may be the very thing that cannot be decoded.  ``window`` says that not the
    event is at fault but a window it closed; the event itself was processed.
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
    window: bool = False


@event_type("letters.requested")
class LettersRequested(Payload):
    """Somebody decided what becomes of dead letters; put into the partition of the stage's first input they came from.

    Letters are named by their offsets on the stream of dead letters.

    Attributes:
        after: how many such requests the stage's partition had taken up when this was decided; if there are others by
            now, it was decided on old knowledge and is refused.
        keys: keys to be released, each with the first letter to be processed again; with all that follow it.
        without: those of them that were done with before.
        replayed: single letters to be processed again, of keys that are not parked.
        dropped: single letters that are done with.
    """

    stage: str
    after: int
    keys: Mapping[str, str] = {}
    without: tuple[str, ...] = ()
    replayed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    by: str = ""


@event_type("letters.taken")
class LettersTaken(Payload):
    """A request was taken up, or refused; on the stream of dead letters it stands after every letter it is about.

    Attributes:
        number: how many requests the stage's partition has taken up.
        refused: why nothing is done; empty when it is.
        keys: all letters of these keys that came before, those of windows aside, are done with.
        letters: so are these.
        replays: whether letters are processed again now; then a ``ReplayEnded`` follows.
    """

    stage: str
    partition: int
    request: UUID
    number: int
    refused: str = ""
    keys: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()
    replays: bool = False


@event_type("replay.ended")
class ReplayEnded(Payload):
    """All letters of a request were processed again; ``again`` of them are new dead letters."""

    stage: str
    partition: int
    request: UUID
    replayed: int
    again: int
