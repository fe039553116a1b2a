"""The dead letters nobody has dealt with, and how to ask for them to be replayed or dropped.

Nothing is kept beside the stream of dead letters: the letters lie on it, and so do the notes that say which are done.
What is asked for is itself an event, in the input of the stage that gave up (:mod:`pipeline.engine.replaying`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import DEAD_LETTERS
from pipeline.engine.record import BEGINNING, Offset, Output, Place, Record, output_for, partition_of
from topology.errors import BadInputError, UsageError
from topology.event import Event, Payload
from topology.graph import Stage, Topology
from topology.ids import derived_id
from topology.payloads.operation import EventDeadLettered, LettersRequested, LettersTaken, ReplayEnded

PLACE: Place = (DEAD_LETTERS.name, 0)
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter.

    Attributes:
        at: where it lies on the stream of dead letters.
    """

    id: UUID
    at: Offset
    payload: EventDeadLettered

    @property
    def owner(self) -> tuple[str, int]:
        """The stage and partition that gave up."""
        return self.payload.stage, self.payload.partition


@dataclass(slots=True)
class DeadLetters:
    """Everything on the stream of dead letters, folded: which letters are open, in order.

    Attributes:
        taken: by stage and partition, how many requests it has taken up.
        notes: what became of requests, by the request's id.
        end: up to where this is true.
    """

    taken: dict[tuple[str, int], int] = field(default_factory=dict)
    notes: dict[UUID, list[LettersTaken | ReplayEnded]] = field(default_factory=dict)
    end: Offset = BEGINNING
    _open: dict[Offset, DeadLetter] = field(default_factory=dict)
    _done: dict[tuple[str, int], dict[Offset, str]] = field(default_factory=dict)

    @property
    def letters(self) -> list[DeadLetter]:
        """Those nobody has dealt with, oldest first."""
        return list(self._open.values())

    def done(self, owner: tuple[str, int], since: Mapping[str, Offset]) -> list[Offset]:
        """Letters of keys of a stage's partition that were dealt with, though older ones may be open."""
        done = self._done.get(owner, {})
        return sorted(at for at, key in done.items() if key in since and at >= since[key])

    async def follow(self, mesh: Mesh, *, wait_s: float = 0.0) -> int:
        """Take in what was added; answers how many records that was.

        Args:
            wait_s: how long to wait for something when there is nothing.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        count = 0
        while records := await mesh.read({PLACE: self.end}, count=_AT_ONCE, wait_s=0 if count else wait_s):
            for record in records:
                self._take(record)
            count += len(records)
        return count

    def _take(self, record: Record) -> None:
        self.end = record.offset
        try:
            event = record.event
        except BadInputError:
            return  # somebody else put it there
        payload = event.payload
        if isinstance(payload, EventDeadLettered):
            self._open[record.offset] = DeadLetter(event.id, record.offset, payload)
        elif isinstance(payload, LettersTaken):
            owner = payload.stage, payload.partition
            self.taken[owner] = max(payload.number, self.taken.get(owner, 0))
            self.notes.setdefault(payload.request, []).append(payload)
            self._close(owner, set(payload.keys), {Offset.parse(at) for at in payload.letters})
        elif isinstance(payload, ReplayEnded):
            self.notes.setdefault(payload.request, []).append(payload)

    def _close(self, owner: tuple[str, int], keys: set[str], singles: set[Offset]) -> None:
        if not keys and not singles:
            return
        closed = {
            letter.at: letter.payload.key
            for letter in self._open.values()
            if letter.owner == owner
            and (letter.at in singles or (letter.payload.key in keys and not letter.payload.window))
        }
        for at in closed:
            del self._open[at]
        self._done.setdefault(owner, {}).update(closed)


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody wants to become of letters; ``requests`` are to be published, all at once."""

    letters: Sequence[DeadLetter]
    requests: Sequence[Output]
    ids: Sequence[UUID]


def replay(known: DeadLetters, topology: Topology, chosen: Iterable[DeadLetter], *, now: datetime, by: str) -> Decision:
    """Ask for letters to be processed again by their stages, and for their keys to be released.

    Raises:
        UsageError: a letter cannot be processed again, or order would be lost.
    """
    letters = list(chosen)
    for letter in letters:
        _refuse_what_cannot_be_replayed(letter, topology)
    return _decide(known, topology, letters, _replay_of_one, now=now, by=by)


def drop(known: DeadLetters, topology: Topology, chosen: Iterable[DeadLetter], *, now: datetime, by: str) -> Decision:
    """Mark letters as done; a key none of whose letters is left is released.

    Events of such a key that became letters after ``known`` are processed: nobody has seen them, so nobody meant them.
    """
    return _decide(known, topology, list(chosen), _drop_of_one, now=now, by=by)


def release(known: DeadLetters, topology: Topology, stage: Stage, key: str, *, now: datetime, by: str) -> Decision:
    """Release a key all of whose letters have expired."""
    partition = partition_of(key, stage.partitions)
    request = LettersRequested(
        stage=stage.id, after=known.taken.get((stage.id, partition), 0), keys={key: str(_after(known.end))}, by=by
    )
    output, event_id = _request(topology, partition, request, now)
    return Decision((), (output,), (event_id,))


_OfOne = Callable[[DeadLetters, Stage, "_Chosen", str], LettersRequested]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What was chosen of one stage's partition, beside what else is open there."""

    owner: tuple[str, int]
    letters: list[DeadLetter]
    others: list[DeadLetter]

    @property
    def whole_keys(self) -> set[str]:
        """Keys all of whose open letters were chosen; of a window there is nothing that its key waits for."""
        left = {letter.payload.key for letter in self.others if not letter.payload.window}
        return {letter.payload.key for letter in self.letters if not letter.payload.window} - left


def _decide(
    known: DeadLetters, topology: Topology, letters: list[DeadLetter], of_one: _OfOne, *, now: datetime, by: str
) -> Decision:
    stages = {stage.id: stage for stage in topology.stages}
    outputs: list[Output] = []
    ids: list[UUID] = []
    for owner in sorted({letter.owner for letter in letters}):
        mine = [letter for letter in letters if letter.owner == owner]
        at = {letter.at for letter in mine}
        others = [letter for letter in known.letters if letter.owner == owner and letter.at not in at]
        stage = stages.get(owner[0])
        if stage is None:
            output, event_id = _note_of_nobody(known, owner, mine, now)
        else:
            request = of_one(known, stage, _Chosen(owner, mine, others), by)
            output, event_id = _request(topology, owner[1], request, now)
        outputs.append(output)
        ids.append(event_id)
    return Decision(letters, outputs, ids)


def _replay_of_one(known: DeadLetters, stage: Stage, chosen: _Chosen, by: str) -> LettersRequested:
    keys: dict[str, str] = {}
    singles: list[str] = []
    for letter in chosen.letters:
        key = letter.payload.key
        if key in chosen.whole_keys:
            keys.setdefault(key, str(letter.at))  # the oldest one
        elif stage.spec.on_poison == "park-key":
            left = sum(other.payload.key == key and not other.payload.window for other in chosen.others)
            msg = (
                f"{letter.id} is one of the letters of {key!r}, which {stage.id} has parked; {left} more of it would be "
                f"passed over. Drop those that can never be processed, then replay the whole key with --key {key}"
            )
            raise UsageError(msg)
        else:
            singles.append(str(letter.at))
    first = {key: Offset.parse(at) for key, at in keys.items()}
    return LettersRequested(
        stage=stage.id,
        after=known.taken.get(chosen.owner, 0),
        keys=keys,
        without=tuple(map(str, known.done(chosen.owner, first))),
        replayed=tuple(singles),
        by=by,
    )


def _drop_of_one(known: DeadLetters, stage: Stage, chosen: _Chosen, by: str) -> LettersRequested:
    return LettersRequested(
        stage=stage.id,
        after=known.taken.get(chosen.owner, 0),
        keys=dict.fromkeys(sorted(chosen.whole_keys), str(_after(known.end))),
        dropped=tuple(str(letter.at) for letter in chosen.letters),
        by=by,
    )


def _refuse_what_cannot_be_replayed(letter: DeadLetter, topology: Topology) -> None:
    if letter.payload.window:
        msg = f"{letter.id} is about a window, whose events were processed and counted; it can only be dropped"
        raise UsageError(msg)
    if letter.payload.stage not in {stage.id for stage in topology.stages}:
        msg = f"{letter.id} is of {letter.payload.stage!r}, which is no stage of the topology; it can only be dropped"
        raise UsageError(msg)


def _request(topology: Topology, partition: int, request: LettersRequested, now: datetime) -> tuple[Output, UUID]:
    """The same decision on the same knowledge is one event, however often it is published."""
    event: Event[Payload] = Event(
        id=derived_id("letters-request", partition, request.model_dump_json()),
        timestamp=now,
        source="command",
        payload=request,
    )
    head = topology.task_of(request.stage)  # a stage that does not begin a task hears of it through the one that does
    return output_for(head.inputs[0], event, key="", partition=partition), event.id


def _note_of_nobody(
    known: DeadLetters, owner: tuple[str, int], letters: list[DeadLetter], now: datetime
) -> tuple[Output, UUID]:
    """No task is there that could note it: of a sink, or of a stage that is gone."""
    offsets = tuple(str(letter.at) for letter in letters)
    request = derived_id("letters-dropped", *owner, *offsets)
    note: Event[Payload] = Event(
        id=derived_id("letters-taken", request, *owner),
        timestamp=now,
        source="command",
        payload=LettersTaken(
            stage=owner[0], partition=owner[1], request=request, number=known.taken.get(owner, 0), letters=offsets
        ),
    )
    return output_for(DEAD_LETTERS, note), request


def _after(offset: Offset) -> Offset:
    return Offset(offset.ms, offset.seq + 1)
