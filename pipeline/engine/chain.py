"""Stages that run as one task: what one concludes for the next is handed over in memory, and all is committed at once.

Where a stream is declared with ``stored: false``, the stage that emits it and the one that consumes it (and so on) are a
chain.  The first of them, the head, gives the task its name, its lease, its inputs and its place in them; each keeps its own
rows, under its own name, in the one state of the task.  Each is still a :class:`PartitionTask` of its own, and what passes
between them is what would have been stored, to the byte; so everything that the others put on the mesh is too.

Nothing may wait between two of them, for it would be lost in a crash: a commit passes the head's input.  So whoever follows
is done with everything in the same step; it may not ask, or halt; and while its dead letters are replayed the head rests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.engine.attempt import ImpureAgentError, OpenQuestion
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, PassedRecord, Place, Record
from pipeline.engine.replaying import PLACE as LETTERS
from pipeline.engine.rows import Remembered, following
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import HaltedError, Memory
from topology.agent import Agent
from topology.errors import BadInputError
from topology.graph import Stage
from topology.payloads.operation import LettersRequested

_CAME = "came"


def task_for(stage: Stage, partition: int, remembered: Remembered, memory: Memory | None = None) -> PartitionTask:
    """The task of a stage that begins one, and of all that follow it."""
    kind = PartitionTask if stage.next is None else ChainedTask
    return kind(stage, partition, remembered, memory)


class ChainedTask(PartitionTask):
    """A stage's part of a chain; the head's is the task of all of them."""

    def __init__(self, stage: Stage, partition: int, remembered: Remembered, memory: Memory | None = None) -> None:
        super().__init__(stage, partition, remembered, memory)
        self._next: _FollowingTask | None = None
        self._sorted = 0  # so many outputs of the next commit are known to be for the mesh
        self._rests = False
        if stage.next is not None and remembered.next is not None:
            self._passes_on = stage.next.inputs[0].name
            self._next = _FollowingTask(stage.next, partition, remembered.next, self._memory.of(stage.next.id))
            self._rests = self._next.replays

    @property
    def agents(self) -> Sequence[Agent[Any, Any]]:
        return (self.agent, *self._next.agents) if self._next is not None else (self.agent,)

    @property
    def positions(self) -> Mapping[Place, Offset]:
        if self._next is None or not self._next.replays:
            return super().positions
        letters = self._next.letters_from
        return {} if letters is None else {LETTERS: letters}  # those of this stage are read when it no longer rests

    @property
    def room(self) -> bool:
        return bool(self.positions) if self._next is not None and self._next.replays else super().room

    @property
    def ready(self) -> bool:
        return super().ready or (self._next is not None and self._next.ready)

    @property
    def moved(self) -> bool:
        return super().moved or (self._next is not None and self._next.moved)

    @property
    def has_news(self) -> bool:
        return super().has_news or (self._next is not None and self._next.has_news)

    @property
    def replays(self) -> bool:
        """Whether this stage or one that follows is processing dead letters again."""
        return self._replays.under_way or (self._next is not None and self._next.replays)

    def offer(self, records: Sequence[Record]) -> None:
        if self._next is not None and self._next.replays:
            self._next.offer([record for record in records if record.stream == LETTERS[0]])
            records = [record for record in records if record.stream != LETTERS[0]]
        super().offer(records)

    def step(self, records_max: int | None = None) -> None:
        try:
            super().step(records_max)
        except HaltedError:
            self._pass_on()  # what came before the halt is committed
            raise
        self._pass_on()

    def take_commit(self) -> Commit:
        commit = super().take_commit()
        self._sorted = 0
        if self._next is not None:
            self._next.add_to(commit)
        return commit

    @property
    def _may_ask(self) -> bool:
        return not self._rests and super()._may_ask

    def _take_request(self, record: Record) -> None:
        super()._take_request(record)
        if self._next is not None and self._next.is_meant(record):
            request = record.event.id_text, record.value
            self._commit.outputs.append(
                Output(self._passes_on, self.partition, record.key, record.event_type, *request)
            )
            self._rests = True  # what comes after it waits; the next one says for how long

    def _pass_on(self) -> None:
        """Let the next one process everything there is for it, at once."""
        if self._next is None:
            return
        outputs = self._commit.outputs
        new = outputs[self._sorted :]
        passed = [output for output in new if output.stream == self._passes_on]
        if passed:
            outputs[self._sorted :] = [output for output in new if output.stream != self._passes_on]
            self._next.take_over(passed, max(progress.offset.ms for progress in self._progress.values()))
        self._sorted = len(outputs)
        self._next.step()
        self._rests = self._next.replays


class _FollowingTask(ChainedTask):
    """The part of a stage that does not begin the task: its input comes from the stage before it."""

    def __init__(self, stage: Stage, partition: int, remembered: Remembered, memory: Memory) -> None:
        came = remembered.rows.get(_CAME)
        self._place = stage.inputs[0].name, partition
        remembered.offsets = {self._place: BEGINNING if came is None else Offset.parse(came)}
        super().__init__(stage, partition, remembered, memory)

    @property
    def letters_from(self) -> Offset | None:
        """The last dead letter read by the stage whose turn it is, those behind it first; None while none is to be read."""
        if self._next is not None and self._next.replays:
            return self._next.letters_from
        return self._replays.position

    def is_meant(self, request: Record) -> bool:
        """Whether a request concerns this stage or one that follows."""
        try:
            payload = request.event.payload
        except BadInputError:
            return False  # the head has said so
        return isinstance(payload, LettersRequested) and any(each.id == payload.stage for each in self.stage.chain)

    def take_over(self, outputs: Sequence[Output], now_ms: int) -> None:
        """Take in what the stage before has concluded.

        Args:
            now_ms: when that came of which it was concluded, by the mesh's clock.
        """
        ms, seq = self._progress[self._place].position
        if now_ms > ms:
            ms, seq = now_ms, -1
        self.offer([PassedRecord(output, Offset(ms, seq + n)) for n, output in enumerate(outputs, 1)])

    def add_to(self, commit: Commit) -> None:
        """Put everything since the last call into the commit of the whole task."""
        self._rows.put(_CAME, str(self._progress[self._place].offset).encode())
        mine = PartitionTask.take_commit(self)
        self._sorted = 0
        commit.state.update((following(self.stage.id, row), value) for row, value in mine.state.items())
        commit.outputs += mine.outputs
        if self._next is not None:
            self._next.add_to(commit)

    def _wait_for(self, question: OpenQuestion, record: Record) -> None:
        msg = (
            f"{type(question.question).__name__} was asked by {self.stage.id!r}, whose input {record.stream!r} is passed on in "
            f"memory and cannot wait for the answer; take `stored: false` from the stream"
        )
        raise ImpureAgentError(msg)
