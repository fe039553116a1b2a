"""One stage, one partition: records and answers in, commits out.  Pure, so every engine runs the same one.

The task holds the only copy of the stage's running state for its partition.  Whatever goes wrong while an event is
processed, the way back is always the same: forget the task, restore a new one from what is committed, and let it know
the verdict on the event.  So a poisoned event, a crash and a lost lease are one mechanism.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from inspect import isasyncgenfunction
from itertools import islice
from operator import attrgetter
from typing import Any

from pipeline.engine.attempt import OpenQuestion, PlainAgent, attempt
from pipeline.engine.entrance import Entrance
from pipeline.engine.event_time import EventTime
from pipeline.engine.inputs import wanted_types
from pipeline.engine.outputs import OutputBuilder, dead_letter
from pipeline.engine.progress import Progress
from pipeline.engine.record import Commit, Offset, Place, Record, decode_together
from pipeline.engine.replaying import PLACE as LETTERS
from pipeline.engine.replaying import REQUEST, Letter, Replays, id_of
from pipeline.engine.rows import Remembered
from pipeline.engine.verdict import (
    KEY_PARKED,
    HaltedError,
    Memory,
    MustRestoreError,
    RecordId,
    Verdict,
    Window,
    WindowPoisonedError,
)
from topology.agent import Agent, is_plain
from topology.graph import Stage
from topology.payloads.operation import TickPassed

_WATERMARK = "watermark"
_AHEAD = "ahead/"
_PARKED = "parked/"
_TICK = TickPassed.event_type
_offset = attrgetter("offset")


class PartitionTask:
    """See the module.  Use: ``offer`` records, ``step``, make the commit of ``take_commit``; repeat."""

    def __init__(self, stage: Stage, partition: int, remembered: Remembered, memory: Memory | None = None) -> None:
        self.stage = stage
        self.partition = partition
        self.agent = remembered.agent
        self._memory = memory if memory is not None else Memory()
        self._memory.answers = {**remembered.answers, **self._memory.answers}
        self._outputs = OutputBuilder(stage, partition)
        self._asks = isasyncgenfunction(stage.agent_class.process)
        self._plain = PlainAgent(self.agent) if is_plain(stage.agent_class) else None
        self._wanted = wanted_types(stage)
        self._concerned = self._wanted | {_TICK}
        self._queue: deque[Record] = deque()
        self._blocked: dict[str, deque[Record]] = {}
        self._commit = Commit(stage.id, partition, {})
        self._rows = remembered.rows
        self._parked = self._rows.names(_PARKED)
        self._replays = Replays(stage.id, partition, self._rows)
        watermark_us = int(self._rows.get(_WATERMARK) or b"0")
        self._time = EventTime(stage, self.agent, self._outputs, self._memory, watermark_us)
        self._progress = {
            place: Progress.restored(offset, self._rows.get(_AHEAD + place[0]))
            for place, offset in remembered.offsets.items()
        }
        self.entrance = Entrance.of(stage, partition, self._progress)

    @property
    def agents(self) -> Sequence[Agent[Any, Any]]:
        """Those that run in this task."""
        return (self.agent,)

    @property
    def positions(self) -> Mapping[Place, Offset]:
        """Per input, the last record taken in; during a replay the dead letters are an input too."""
        inputs = {place: progress.position for place, progress in self._progress.items()}
        letters = self._replays.position
        if letters is None:
            return inputs
        return {**inputs, LETTERS: letters} if self._has_room else {LETTERS: letters}

    @property
    def room(self) -> bool:
        """Whether more records may be offered; no while too many wait for answers."""
        return self._has_room or self._replays.position is not None

    @property
    def waiting(self) -> int:
        """How many records have been taken in and are not done."""
        blocked = sum(len(records) for records in self._blocked.values())
        return len(self._queue) + self._replays.waiting + blocked

    @property
    def ready(self) -> bool:
        """Whether a step would find something to process."""
        return (
            (bool(self._queue or self._replays.letters) and self._may_ask)
            or self._replays.over
            or any(not self._waits_for_answer(records[0]) for records in self._blocked.values())
        )

    def offer(self, records: Sequence[Record]) -> None:
        """Take in records of this task's inputs, in order; those it had before are passed over."""
        taken: list[Record] = []
        if self._replays.under_way:
            self._replays.offer(record for record in records if record.stream == LETTERS[0])
        for place, progress in self._progress.items():
            coming = self._records_of(place, records)
            first = bisect_right(coming, progress.position, key=_offset)
            taken += progress.begin_all(coming[first:] if first else coming)
        if self.entrance is not None:
            taken = self.entrance.admit(taken, self._memory)
        # Offsets are the mesh's clock, so this is the order in which the records of several inputs came.
        if len(self._progress) > 1:
            taken.sort(key=lambda record: (record.offset, record.stream))
        self._queue.extend(taken)

    def step(self, records_max: int | None = None) -> None:
        """Process what can be processed now; then ask what :meth:`take_questions` gives.

        Args:
            records_max: take no more than so many from the queue.

        Raises:
            MustRestoreError: restore a new task with the same ``Memory``; nothing is lost.
            HaltedError: the stage's policy is not to go on; what came before may be committed.
        """
        try:
            for key in [key for key, records in self._blocked.items() if not self._waits_for_answer(records[0])]:
                self._run_chain(key)
            self._step_replay(records_max)
            remaining = len(self._queue) if records_max is None else records_max
            while self._queue and self._may_ask and remaining:
                if self._plain is not None and self._nothing_in_the_way:
                    done = self._run_plainly(self._plain, min(remaining, len(self._queue)))
                    remaining -= done
                    if done:
                        continue
                remaining -= 1
                record = self._queue.popleft()
                if not self._replays.holds_back(record):
                    self._run_in_turn(record)
        except HaltedError:
            self._store()
            raise
        self._store()

    def take_questions(self) -> list[OpenQuestion]:
        """Questions for the world, each once; hand the answers in with :meth:`answer`."""
        questions, self._memory.to_ask = self._memory.to_ask, []
        return questions

    def answer(self, question: OpenQuestion, answer: Any) -> None:
        """Hand in the (recorded) answer to a question, as JSON data, or the ``AnswerFailedError`` it came to."""
        self._memory.answered(question.key, answer)

    @property
    def moved(self) -> bool:
        """Whether anything at all is to be committed."""
        return any(progress.passed for progress in self._progress.values()) or self._replays.moved or self.has_news

    @property
    def has_news(self) -> bool:
        """Whether the next commit says more than how far the task has come, which may wait a little."""
        return bool(self._commit.outputs or self._rows.changed or self._commit.answered)

    def take_commit(self) -> Commit:
        """Everything since the last call; make it, or restore a new task."""
        if self.entrance is not None:
            self._commit.outputs += self.entrance.reports()
        commit = self._commit
        self._commit = Commit(self.stage.id, self.partition, {})
        self._memory.careful = False
        for key in commit.answered:
            self._memory.answers.pop(key, None)
        for place, progress in self._progress.items():
            if progress.passed:
                commit.offsets[place] = progress.offset
                commit.records[place] = progress.passed
                progress.passed = 0
            self._rows.put(_AHEAD + place[0], progress.ahead_row)
        if self._memory.verdicts:
            self._forget_verdicts()
        self._replays.save()
        self._rows.put(_WATERMARK, b"%d" % self._time.watermark_us)
        commit.state = self._rows.take()
        return commit

    def _forget_verdicts(self) -> None:
        """Whoever was guilty and is done is in the dead letters now."""
        verdicts = self._memory.verdicts
        if not self._pending and not self._replays.under_way:
            verdicts.clear()
        for window in self._time.given_up:
            verdicts.pop(window, None)
        self._time.given_up.clear()
        for culprit in list(verdicts):
            progress = self._progress.get(culprit[0]) if len(culprit) == 2 else None
            if progress is not None and isinstance(culprit[1], Offset) and progress.is_finished(culprit[1]):
                del verdicts[culprit]

    def _run_plainly(self, plain: PlainAgent, count: int) -> int:
        """Run records of a plain agent while nothing stands in the way of any; answers how many were run.

        Comes to the same as :meth:`_run` for each, faster: whatever goes wrong, the task is restored, so all of them can
        be finished together.
        """
        queue, outputs, wanted, time = self._queue, self._commit.outputs, self._wanted, self._time
        batch = list(islice(queue, count))
        decode_together(batch, wanted)
        done, record = 0, batch[0]
        try:
            for record in batch:
                if record.event_type in wanted:
                    event = record.event
                    concluded = plain.conclude(event)
                    if concluded is None:
                        self._plain = None
                        break
                    if concluded:
                        outputs += self._outputs.caused_by(event, concluded)
                    outputs += time.pass_to(event, record)
                elif record.event_type == _TICK:
                    outputs += time.pass_to(record.event, record)
                elif record.event_type == REQUEST:
                    break
                done += 1
        except Exception as error:  # as in _process
            self._condemn(record, error)
            raise self._half_done(record, error) from error
        for _ in range(done):
            queue.popleft()
        finished = batch if done == count else batch[:done]
        for place, progress in self._progress.items():
            progress.finish_all(self._records_of(place, finished))
        return done

    def _records_of(self, place: Place, records: Sequence[Record]) -> Sequence[Record]:
        stream, partition = place
        ends = (records[0], records[-1]) if records and len(self._progress) == 1 else ()
        if ends and all(end.stream == stream and end.partition == partition for end in ends):
            return records  # letters, which come with those of a single input, stand together before or behind them
        return [record for record in records if record.stream == stream and record.partition == partition]

    @property
    def _nothing_in_the_way(self) -> bool:
        memory = self._memory
        return not (self._blocked or self._parked or memory.verdicts or memory.careful or self._replays.under_way)

    @property
    def _may_ask(self) -> bool:
        return len(self._blocked) < self.stage.spec.concurrency

    @property
    def _pending(self) -> int:
        return sum(progress.pending for progress in self._progress.values())

    @property
    def _has_room(self) -> bool:
        return self._may_ask and self._pending < self.stage.spec.pending_max

    def _step_replay(self, letters_max: int | None) -> None:
        letters = self._replays.letters
        remaining = len(letters) if letters_max is None else letters_max
        while letters and self._may_ask and remaining:
            remaining -= 1
            self._run_in_turn(letters.popleft())
        if self._replays.over:
            note, held_back = self._replays.end()
            self._commit.outputs.append(note)
            self._queue.extendleft(reversed(held_back))

    def _run_in_turn(self, record: Record) -> None:
        if record.key in self._blocked:
            self._blocked[record.key].append(record)
        else:
            self._run(record)

    def _run_chain(self, key: str) -> None:
        records = self._blocked.pop(key)
        while records:
            record = records.popleft()
            self._run(record)
            if key in self._blocked:
                self._blocked[key].extend(records)
                return

    def _run(self, record: Record) -> None:
        if self._waits_for_answer(record):
            self._blocked[record.key] = deque([record])
            return
        verdict = self._memory.verdicts.get(id_of(record)) if self._memory.verdicts else None
        if verdict is None and record.key in self._parked and record.event_type in self._wanted:
            verdict = KEY_PARKED
        if record.event_type == REQUEST:
            self._take_request(record)
        elif verdict is not None:
            self._give_up(record, verdict)
        elif record.event_type in self._concerned and not self._process(record):
            return
        if isinstance(record, Letter):
            self._replays.finish(record)
        else:
            self._progress[record.stream, record.partition].finish(record.offset)

    def _take_request(self, record: Record) -> None:
        outputs, released = self._replays.take(record)
        self._commit.outputs += outputs
        for key in released:
            self._parked.discard(key)
            self._rows.put(_PARKED + key, None)

    def _process(self, record: Record) -> bool:
        exact = self._asks or self._memory.careful
        if exact:
            self._store()  # so that what this attempt touches can be told apart
        storing, watermark_us = False, self._time.watermark_us
        try:
            event = record.event
            wanted = record.event_type in self._wanted
            result = attempt(self.agent, event, self._memory.answers) if wanted else ([], [])
            if isinstance(result, OpenQuestion):
                self._wait_for(result, record)
                return False
            concluded, used = result
            outputs = [*self._outputs.caused_by(event, concluded), *self._time.pass_to(event, record)]
            outputs += [self._outputs.answer_recorded(event, key, self._memory.answers[key]) for key in used]
            if self._memory.careful:
                storing = True
                self._rows.collect()
        except MustRestoreError:
            raise
        except Exception as error:  # the engine's one boundary around foreign code: nothing is lost, see Verdict
            verdict = self._condemn(record, error)
            if storing or not exact or self._rows.were_touched():
                raise self._half_done(record, error) from error
            self._time.watermark_us = watermark_us
            self._give_up(record, verdict)
            return True
        self._commit.outputs += outputs
        if self._memory.answers:  # all that was asked about it, used or not
            self._commit.answered += self._memory.answers_about(record)
        return True

    def _half_done(self, record: Record, error: Exception) -> MustRestoreError:
        self._memory.careful = True
        msg = f"{self.stage.id}/{self.partition} could not process {record.event_type} at {record.offset}: {error}"
        return MustRestoreError(msg)

    def _condemn(self, record: Record, error: Exception) -> Verdict:
        """Find the culprit guilty, for this task and those restored after it."""
        culprit: RecordId | Window = id_of(record)
        if isinstance(error, WindowPoisonedError) and self.stage.spec.on_poison != "halt":
            culprit = error.window
        cause = error.__cause__ if isinstance(error, WindowPoisonedError) and error.__cause__ else error
        verdict = Verdict(type(cause).__name__, str(cause), getattr(cause, "attempts", 1))
        self._memory.verdicts[culprit] = verdict
        return verdict

    def _wait_for(self, question: OpenQuestion, record: Record) -> None:
        self._blocked[record.key] = deque([record])
        self._memory.wait_for(question, id_of(record))
        if self._rows.were_touched():
            # It wrote before it asked: correct, but the tables must be read back.  Asking first is cheaper.
            msg = f"{self.stage.id}/{self.partition} wrote to a table before asking {question.key}"
            raise MustRestoreError(msg)

    def _waits_for_answer(self, record: Record) -> bool:
        return bool(self._memory.waiting) and id_of(record) in self._memory.waiting

    def _give_up(self, record: Record, verdict: Verdict) -> None:
        if isinstance(record, Letter):
            self._replays.gave_up()
        elif self.stage.spec.on_poison == "halt":
            msg = f"{self.stage.id}/{self.partition} halted at {record.offset} of {record.stream}: {verdict.reason}"
            raise HaltedError(msg)
        self._commit.outputs.append(dead_letter(self.stage.id, record, verdict))
        self._commit.answered += self._memory.answers_about(record)
        if self.stage.spec.on_poison == "park-key" and record.event_type != _TICK:
            self._parked.add(record.key)
            self._rows.put(_PARKED + record.key, b"1")

    def _store(self) -> None:
        try:
            self._rows.collect()
        except Exception as error:
            self._memory.careful = True
            msg = f"{self.stage.id}/{self.partition} wrote to a table what cannot be stored: {error}"
            raise MustRestoreError(msg) from error
