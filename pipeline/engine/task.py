"""One stage, one partition: records and answers in, commits out.  Pure, so every engine runs the same one.

The task holds the only copy of the stage's running state for its partition.  Whatever goes wrong while an event is
processed, the way back is always the same: forget the task, restore a new one from what is committed, and let it know
the verdict on the event.  So a poisoned event, a crash and a lost lease are one mechanism.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from inspect import isasyncgenfunction
from typing import Any

import orjson

from pipeline.engine.attempt import AnswerFailedError, OpenQuestion, attempt, overrides
from pipeline.engine.outputs import OutputBuilder, dead_letter
from pipeline.engine.progress import Progress
from pipeline.engine.record import Commit, Offset, Place, Record, Restored
from topology.errors import AiopsError
from topology.event import Event, Payload
from topology.graph import Stage
from topology.moments import span_us
from topology.payloads.collaboration import HelpRequested
from topology.payloads.lessons import ExperienceRecorded
from topology.payloads.operation import TickPassed

_ENGINE_ROWS = "~"
"""Rows of the engine's own begin with it; a table's name cannot."""
_WATERMARK = "~watermark"
_AHEAD = "~ahead/"
_PARKED = "~parked/"
_TICK = TickPassed.event_type


class MustRestoreError(AiopsError):
    """The task's tables hold half an event; restore a new task from what is committed."""


class HaltedError(AiopsError):
    """The stage's policy is to halt at a poisoned event; somebody must look at it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an event will not be processed."""

    error: str
    reason: str
    attempts: int = 1


@dataclass(slots=True)
class Memory:
    """What a restored task must know beyond what is committed; the same object serves all tasks of one lease.

    Attributes:
        answers: answers of the world by key, for events that are not done.
        asked: keys of questions that are on their way, with the record that waits.
        to_ask: questions nobody has put to the world yet.
        verdicts: events found to be poisoned.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, tuple[Place, Offset]] = field(default_factory=dict)
    to_ask: list[OpenQuestion] = field(default_factory=list)
    verdicts: dict[tuple[Place, Offset], Verdict] = field(default_factory=dict)


class PartitionTask:
    """See the module.  Use: ``offer`` records, ``step``, make the commit of ``take_commit``; repeat."""

    def __init__(self, stage: Stage, partition: int, restored: Restored, memory: Memory | None = None) -> None:
        self.stage = stage
        self.partition = partition
        self.agent = stage.new_agent()
        self.watermark_us = int(restored.state.get(_WATERMARK, b"0"))
        self._memory = memory if memory is not None else Memory()
        self._memory.answers = {**restored.answers, **self._memory.answers}
        self._outputs = OutputBuilder(stage, partition)
        self._lateness_us = span_us(stage.spec.lateness)
        self._asks = isasyncgenfunction(stage.agent_class.process)
        self._wanted = wanted_types(stage)
        self._queue: deque[Record] = deque()
        self._blocked: dict[str, deque[Record]] = {}
        self._commit = Commit(stage.id, partition, {})
        self._progress: dict[Place, Progress] = {}
        self._engine_rows: dict[str, bytes | None] = {}
        self._parked: set[str] = set()
        self._restore(restored)

    @property
    def positions(self) -> Mapping[Place, Offset]:
        """Per input, the last record taken in."""
        return {place: progress.position for place, progress in self._progress.items()}

    @property
    def room(self) -> bool:
        """Whether more records may be offered; no while too many wait for answers."""
        return len(self._blocked) < self.stage.spec.concurrency and len(self._queue) < 10_000

    @property
    def waiting(self) -> int:
        """How many records have been taken in and are not done."""
        return len(self._queue) + sum(len(blocked) for blocked in self._blocked.values())

    @property
    def ready(self) -> bool:
        """Whether a step would find something to process."""
        return bool(self._queue) or any(not self._waits_for_answer(records[0]) for records in self._blocked.values())

    def offer(self, records: Iterable[Record]) -> None:
        """Take in records of this task's inputs, in order; those it had before are passed over."""
        taken = []
        for record in records:
            progress = self._progress.get((record.stream, record.partition))
            if progress is None or record.offset <= progress.position:
                continue
            if progress.begin(record.offset):
                taken.append(record)
        # Offsets are the mesh's clock, so this is the order in which the records of several inputs came.
        if len(self._progress) > 1:
            taken.sort(key=lambda record: (record.offset, record.stream))
        self._queue.extend(taken)

    def step(self) -> None:
        """Process what can be processed now; then ask what :meth:`take_questions` gives.

        Raises:
            MustRestoreError: restore a new task with the same ``Memory``; nothing is lost.
            HaltedError: the stage's policy is not to go on.
        """
        for key in [key for key, records in self._blocked.items() if not self._waits_for_answer(records[0])]:
            self._run_chain(key)
        while self._queue:
            record = self._queue.popleft()
            if record.key in self._blocked:
                self._blocked[record.key].append(record)
            else:
                self._run(record)

    def take_questions(self) -> list[OpenQuestion]:
        """Questions for the world, each once; hand the answers in with :meth:`answer`."""
        questions, self._memory.to_ask = self._memory.to_ask, []
        return questions

    def answer(self, question: OpenQuestion, answer: Any) -> None:
        """Hand in the (recorded) answer to a question, as JSON data, or the ``AnswerFailedError`` it came to."""
        self._memory.answers[question.key] = answer
        self._memory.asked.pop(question.key, None)

    @property
    def moved(self) -> bool:
        """Whether anything at all is to be committed."""
        return any(progress.passed for progress in self._progress.values()) or self.has_news

    @property
    def has_news(self) -> bool:
        """Whether the next commit says more than how far the task has come, which may wait a little."""
        self._collect_tables()
        return bool(self._commit.outputs or self._commit.state or self._commit.answered)

    def take_commit(self) -> Commit:
        """Everything since the last call; make it, or restore a new task."""
        self._collect_tables()
        commit = self._commit
        self._commit = Commit(self.stage.id, self.partition, {})
        for place, progress in self._progress.items():
            if progress.passed:
                commit.offsets[place] = progress.offset
                commit.records[place] = progress.passed
                progress.passed = 0
            ahead = orjson.dumps([str(offset) for offset in progress.ahead])
            self._set_row(commit, _AHEAD + place[0], ahead if ahead != b"[]" else None)
        self._set_row(commit, _WATERMARK, b"%d" % self.watermark_us)
        return commit

    def _run_chain(self, key: str) -> None:
        records = self._blocked.pop(key)
        while records:
            record = records.popleft()
            self._run(record)
            if key in self._blocked:
                self._blocked[key].extend(records)
                return

    def _run(self, record: Record) -> None:
        place = record.stream, record.partition
        if self._waits_for_answer(record):
            self._blocked[record.key] = deque([record])
            return
        verdict = self._memory.verdicts.get((place, record.offset))
        if verdict is None and record.key in self._parked:
            verdict = Verdict(
                "KeyParked", "an earlier event of this key is in the dead letters; replay or drop it first"
            )
        if verdict is not None:
            self._give_up(record, verdict)
        elif self._concerns(record) and not self._process(record):
            return
        self._progress[place].finish(record.offset)

    def _concerns(self, record: Record) -> bool:
        return record.event_type in self._wanted or record.event_type == _TICK

    def _process(self, record: Record) -> bool:
        if self._asks:
            self._collect_tables()  # so that what this attempt touches can be told apart
        try:
            event = record.event
            wanted = record.event_type in self._wanted
            result = attempt(self.agent, event, self._memory.answers) if wanted else ([], [])
            if isinstance(result, OpenQuestion):
                self._wait_for(result, record)
                return False
            concluded, used = result
            self._commit.outputs += self._outputs.caused_by(event, concluded)
            self._commit.outputs += self._outputs.late(event, self.agent)
            self._pass_time(event)
        except MustRestoreError:
            raise
        except Exception as error:  # the engine's one boundary around foreign code: nothing is lost, see Verdict
            self._memory.verdicts[(record.stream, record.partition), record.offset] = Verdict(
                type(error).__name__, str(error)
            )
            msg = f"{self.stage.id}/{self.partition} could not process {record.event_type} at {record.offset}: {error}"
            raise MustRestoreError(msg) from error
        for key in used:
            self._commit.outputs.append(self._outputs.answer_recorded(event, key, self._memory.answers.pop(key)))
            self._commit.answered.append(key)
        return True

    def _wait_for(self, question: OpenQuestion, record: Record) -> None:
        self._blocked[record.key] = deque([record])
        if question.key not in self._memory.asked:
            self._memory.asked[question.key] = (record.stream, record.partition), record.offset
            self._memory.to_ask.append(question)
        if any(table.changes() for table in self.agent.tables.values()):
            # It wrote before it asked: correct, but the tables must be read back.  Asking first is cheaper.
            msg = f"{self.stage.id}/{self.partition} wrote to a table before asking {question.key}"
            raise MustRestoreError(msg)

    def _waits_for_answer(self, record: Record) -> bool:
        return ((record.stream, record.partition), record.offset) in self._memory.asked.values()

    def _pass_time(self, event: Event[Payload]) -> None:
        watermark_us = event.at_us - self._lateness_us
        if watermark_us <= self.watermark_us:
            return
        self.watermark_us = watermark_us
        for table in self.agent.tables.values():
            for closed in table.advance(watermark_us):
                self._commit.outputs += self._outputs.of_window(event, closed, self.agent.window_closed(closed))

    def _give_up(self, record: Record, verdict: Verdict) -> None:
        if self.stage.spec.on_poison == "halt":
            msg = f"{self.stage.id}/{self.partition} halted at {record.offset} of {record.stream}: {verdict.reason}"
            raise HaltedError(msg)
        self._commit.outputs.append(dead_letter(self.stage.id, record, verdict.error, verdict.reason, verdict.attempts))
        if self.stage.spec.on_poison == "park-key" and record.event_type != _TICK:
            self._parked.add(record.key)
            self._commit.state[_PARKED + record.key] = b"1"

    def _collect_tables(self) -> None:
        for name, table in self.agent.tables.items():
            for row, value in table.changes().items():
                self._commit.state[f"{name}/{row}"] = value

    def _set_row(self, commit: Commit, row: str, value: bytes | None) -> None:
        if value != self._engine_rows.get(row):
            commit.state[row] = value
            self._engine_rows[row] = value

    def _restore(self, restored: Restored) -> None:
        rows: dict[str, dict[str, bytes]] = {name: {} for name in self.agent.tables}
        for row, value in restored.state.items():
            if row.startswith(_ENGINE_ROWS):
                self._engine_rows[row] = value
                if row.startswith(_PARKED):
                    self._parked.add(row.removeprefix(_PARKED))
                continue
            name, _, rest = row.partition("/")
            if name in rows:
                rows[name][rest] = value
        for name, table in self.agent.tables.items():
            table.restore(rows[name])
        for place, offset in restored.offsets.items():
            ahead = orjson.loads(self._engine_rows.get(_AHEAD + place[0]) or b"[]")
            self._progress[place] = Progress(offset, [Offset.parse(text) for text in ahead])


def inputs_of(stage: Stage, partition: int) -> list[Place]:
    """The partitions a task of the stage reads: the same number of every input, since they are co-partitioned."""
    return [(stream.name, partition) for stream in stage.inputs]


def wanted_types(stage: Stage) -> frozenset[str]:
    """The event types worth decoding for a stage."""
    wanted = {payload.event_type for payload in stage.agent_class.consumes}
    if overrides(stage.agent_class, "learn"):
        wanted.add(ExperienceRecorded.event_type)
    if overrides(stage.agent_class, "offer_help"):
        wanted.add(HelpRequested.event_type)
    return frozenset(wanted)


def failed(question: OpenQuestion, error: Exception) -> AnswerFailedError:
    """The answer to hand in when the world could not answer."""
    return AnswerFailedError(f"{type(question.question).__name__} was not answered: {error}")
