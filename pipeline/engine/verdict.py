"""What outlives a task that is forgotten and restored: answers, open questions, and verdicts on what cannot be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.attempt import OpenQuestion
from pipeline.engine.record import Offset, Place, Record
from topology.errors import AiopsError, BadInputError
from topology.event import Event, Payload
from topology.state import ClosedWindow


class MustRestoreError(AiopsError):
    """The task's tables hold half an event; restore a new task from what is committed."""


class HaltedError(AiopsError):
    """The stage's policy is to halt at a poisoned event; somebody must look at it.  What came before it can be committed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an event will not be processed, or a window not be concluded."""

    error: str
    reason: str
    attempts: int = 1


KEY_PARKED = Verdict("KeyParked", "an earlier event of this key is in the dead letters; replay or drop it first")
Window = tuple[str, str, int, int, str]
"""A closed window: table, key, start, end; and of an early result the event that made it due: each is judged anew.

Its revision would not do: a key that was evicted counts from 0 again.
"""
RecordId = tuple[Place, Offset | str]
"""Where a record lies; of one that lies nowhere, its event's id."""


def window_of(closed: ClosedWindow, trigger: Event[Payload]) -> Window:
    """What a verdict on a window's result goes by."""
    return closed.table, closed.key, closed.start_us, closed.end_us, "" if closed.final else trigger.id_text


class WindowPoisonedError(AiopsError):
    """The agent could not conclude from a closed window; the cause says why."""

    def __init__(self, window: Window) -> None:
        self.window = window
        super().__init__(f"the window {self.window} could not be concluded")


@dataclass(slots=True)
class Memory:
    """What a restored task must know beyond what is committed; the same object serves all tasks of one lease.

    Attributes:
        answers: answers of the world by key, for events that are not done.
        waiting: records that wait for an answer, with its key.
        to_ask: questions nobody has put to the world yet.
        verdicts: events and windows found to be poisoned.
        careful: tables are stored after every single event, so that what goes wrong has one culprit.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    waiting: dict[RecordId, str] = field(default_factory=dict)
    to_ask: list[OpenQuestion] = field(default_factory=list)
    verdicts: dict[RecordId | Window, Verdict] = field(default_factory=dict)
    careful: bool = False
    _following: dict[str, Memory] = field(default_factory=dict)

    def of(self, stage: str) -> Memory:
        """The same of a stage that runs in the same task."""
        return self._following.setdefault(stage, Memory())

    def wait_for(self, question: OpenQuestion, record: RecordId) -> None:
        """A record waits for an answer; each answer is asked for once."""
        if question.key not in self.waiting.values():
            self.to_ask.append(question)
        self.waiting[record] = question.key

    def answered(self, key: str, answer: Any) -> None:
        """Whoever waited for the answer can go on."""
        self.answers[key] = answer
        for record in [record for record, waited_for in self.waiting.items() if waited_for == key]:
            del self.waiting[record]

    def knows(self, record: Record) -> bool:
        """Whether something was asked about a record, or found out; then it has begun, and must be brought to an end."""
        begun: RecordId = (record.stream, record.partition), record.offset
        return begun in self.waiting or begun in self.verdicts or bool(self.answers_about(record))

    def answers_about(self, record: Record) -> list[str]:
        """The keys of answers to what was asked about a record."""
        if not self.answers:
            return []
        try:
            about = f"{record.event.id}/"
        except BadInputError:
            return []
        return [key for key in self.answers if key.startswith(about)]
