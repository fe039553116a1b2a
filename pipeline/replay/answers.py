"""What the world answered when a recording was made; in a replay nobody else is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

import orjson

from pipeline.engine.attempt import AnswerFailedError, OpenQuestion
from pipeline.engine.outputs import ANSWERS, DEAD_LETTERS
from pipeline.engine.record import Record
from pipeline.recordings.reader import Recording
from topology.errors import BadInputError, RefusedError
from topology.graph import Stage
from topology.payloads.operation import AnswerRecorded, EventDeadLettered, TickPassed

_LOOKED_AT = 20_000
"""So many records show which streams tick, where nothing else has to be looked for."""


class RecordedAnswers:
    """Everything a replay must know of a recording before it begins: answers, and which streams have ticks.

    Attributes:
        ticking: streams whose ticks are recorded.
        given: how many questions were answered as recorded.
        missing: how many were not, by stage and kind of question.
    """

    def __init__(self, recording: Recording) -> None:
        self.ticking: set[str] = set()
        self.given = 0
        self.missing: Counter[tuple[str, str]] = Counter()
        self._answers: dict[tuple[str, str], bytes] = {}
        self._failures: dict[tuple[str, str], AnswerFailedError] = {}
        counted = recording.index.streams if recording.index else {ANSWERS.name: 1}
        looks_for_answers = any(counted.get(stream.name) for stream in (ANSWERS, DEAD_LETTERS))
        records = recording.records()
        self._take(records if looks_for_answers else islice(records, _LOOKED_AT))

    async def answer(self, stage: Stage, question: OpenQuestion) -> Any:
        """The recorded answer to a question, as JSON data.

        Raises:
            AnswerFailedError: nobody could answer it then either.
            RefusedError: the recording has none.
        """
        asked = type(question.question).__name__
        failure = self._failures.get((stage.id, str(question.event)))
        answer = self._answers.get((stage.id, question.key))
        if answer is None and failure is None:
            self.missing[stage.id, asked] += 1
            msg = f"the recording has no answer to this {asked} of stage {stage.id!r}, and a replay asks nobody"
            raise RefusedError(msg)
        self.given += 1
        found = orjson.loads(answer) if answer is not None else failure
        if isinstance(found, str):
            raise AnswerFailedError(found)
        if isinstance(found, AnswerFailedError):
            raise found
        return found

    def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.event_type == TickPassed.event_type:
                self.ticking.add(record.stream)
            elif record.stream in (ANSWERS.name, DEAD_LETTERS.name):
                self._keep(record)

    def _keep(self, record: Record) -> None:
        try:
            payload = record.event.payload
        except BadInputError:
            return  # of a type that this release does not know
        if isinstance(payload, AnswerRecorded):
            self._answers[payload.stage, payload.question] = orjson.dumps(payload.answer)
        elif isinstance(payload, EventDeadLettered) and payload.error == AnswerFailedError.__name__:
            event = _id_in(payload.event)
            self._failures[payload.stage, event] = AnswerFailedError(payload.reason, payload.attempts)


def _id_in(event: str) -> str:
    try:
        return str(orjson.loads(event)["id"])
    except (KeyError, TypeError, ValueError):
        return ""
