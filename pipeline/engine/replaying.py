"""A task's side of ``aiops dlq``: dead letters become input again.

While a replay is under way, the stream of dead letters is one more input of the task: its letters are processed like
records, the task's place in it is committed with what they led to, and new events of their keys wait behind them.  The
note that the request was taken up is put on that stream too; where it is read, no earlier letter can be missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import orjson

from pipeline.engine.outputs import DEAD_LETTERS, dead_letter
from pipeline.engine.progress import Progress
from pipeline.engine.record import Offset, Output, PassedRecord, Place, Record, output_for
from pipeline.engine.rows import Rows
from pipeline.engine.verdict import RecordId, Verdict
from topology.codec import decode, encode
from topology.errors import BadInputError
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.payloads.operation import EventDeadLettered, LettersRequested, LettersTaken, ReplayEnded, TickPassed

PLACE: Place = (DEAD_LETTERS.name, 0)
REQUEST = LettersRequested.event_type
"""The event type of requests; not the business of agents."""
_TAKEN = "letters/taken"
_REQUEST = "letters/request"
_AT = "letters/at"
_LETTERS_HELD = 1_000
"""Letters a task holds at most that are not processed yet."""


class Letter(Record):
    """A dead letter as the record it was; ``at`` is where it lies among the dead letters."""

    __slots__ = ("at",)

    def __init__(self, at: Offset, letter: EventDeadLettered) -> None:
        value = letter.event.encode()
        super().__init__(
            letter.stream, letter.partition, Offset.parse(letter.offset), letter.key, _type_of(value), value
        )
        self.at = at


class Replays:
    """What was asked of a stage's partition: which requests it took up, and how far the replay under way has come.

    Attributes:
        letters: to be processed now, in order.
    """

    def __init__(self, stage: str, partition: int, rows: Rows) -> None:
        self._stage = stage
        self._partition = partition
        self._rows = rows
        self._taken = int(rows.get(_TAKEN) or b"0")
        self._request: Event[Payload] | None = None
        self._first: dict[str, Offset] = {}
        self._passed_over: frozenset[Offset] = frozenset()
        self._single: frozenset[Offset] = frozenset()
        self._progress = Progress(Offset(0, 0))
        self._end: Offset | None = None  # where the note of the request lies, once it was read
        self._replayed = self._again = 0
        self.letters: deque[Letter] = deque()
        self._held_back: deque[Record] = deque()
        stored = rows.get(_REQUEST)
        if stored:
            self._begin(decode(stored))
            at = orjson.loads(rows.get(_AT) or b"{}")
            if at:
                self._progress = Progress.restored(Offset.parse(at["offset"]), at["ahead"])
                self._end = Offset.parse(at["end"]) if at["end"] else None
                self._replayed, self._again = at["replayed"], at["again"]

    @property
    def under_way(self) -> bool:
        """Whether letters are being processed again."""
        return self._request is not None

    @property
    def position(self) -> Offset | None:
        """The last letter read, while more are to be read; None otherwise."""
        if self._request is None or self._read_all or self._progress.pending >= _LETTERS_HELD:
            return None
        return self._progress.position

    @property
    def over(self) -> bool:
        """Whether everything that was asked for is done, and :meth:`end` is to be called."""
        return self._request is not None and self._read_all and not self._progress.pending

    @property
    def moved(self) -> bool:
        """Whether the place among the letters is to be committed."""
        return bool(self._progress.passed)

    @property
    def _read_all(self) -> bool:
        return self._end is not None and self._progress.position >= self._end

    @property
    def waiting(self) -> int:
        """How many letters and events are held that are not processed."""
        return len(self.letters) + len(self._held_back)

    def holds_back(self, record: Record) -> bool:
        """Whether an event has to wait until the letters of its key are processed; then it is kept until the end."""
        waits = self._request is not None and record.key in self._first and record.event_type != TickPassed.event_type
        if waits:
            self._held_back.append(record)
        return waits

    def take(self, record: Record) -> tuple[list[Output], Iterable[str]]:
        """Take up a request when it is for this stage, or refuse it.

        Returns:
            the note of it, and the keys that are parked no longer.
        """
        try:
            event = record.event
        except BadInputError as error:
            return [dead_letter(self._stage, record, Verdict(type(error).__name__, str(error)))], ()
        request = event.payload
        if not isinstance(request, LettersRequested) or request.stage != self._stage:
            return [], ()
        refused = ""
        if self._request is not None:
            refused = "other letters of this partition are being processed again"
        elif request.after != self._taken:
            refused = f"it was decided after request {request.after}, and there have been {self._taken} by now"
        else:
            self._taken += 1
            self._rows.put(_TAKEN, b"%d" % self._taken)
        taken = LettersTaken(
            stage=self._stage,
            partition=self._partition,
            request=event.id,
            number=self._taken,
            refused=refused,
            keys=() if refused else tuple(request.keys),
            letters=() if refused else (*request.replayed, *request.dropped),
            replays=not refused and bool(request.keys or request.replayed),
        )
        if taken.replays:
            self._rows.put(_REQUEST, encode(event))
            self._begin(event)
        return [self._note(taken, "taken", event)], () if refused else request.keys

    def offer(self, records: Iterable[Record]) -> None:
        """Take in what lies among the dead letters."""
        for record in records:
            if self._request is None or self._read_all or record.offset <= self._progress.position:
                continue
            if not self._progress.begin(record.offset):
                continue
            letter = self._letter(record)
            if letter is None:
                self._progress.finish(record.offset)
            else:
                self.letters.append(letter)

    def finish(self, letter: Letter) -> None:
        """A letter is processed, or is a dead letter again."""
        self._progress.finish(letter.at)
        self._replayed += 1

    def gave_up(self) -> None:
        """The letter that is finished next is a dead letter again."""
        self._again += 1

    def end(self) -> tuple[Output, Sequence[Record]]:
        """Forget the request; answers the note of what came of it, and what was held back, in order.

        Raises:
            ValueError: there is none.
        """
        request = self._request
        if request is None:
            msg = "no replay is under way"
            raise ValueError(msg)
        ended = ReplayEnded(
            stage=self._stage,
            partition=self._partition,
            request=request.id,
            replayed=self._replayed,
            again=self._again,
        )
        note = self._note(ended, "ended", request)
        self._request, self._first = None, {}
        self._progress.passed = 0
        self._rows.put(_REQUEST, None)
        self._rows.put(_AT, None)
        held_back, self._held_back = self._held_back, deque()
        return note, held_back

    def save(self) -> None:
        """Put the place among the letters into the rows."""
        if self._request is None:
            return
        self._progress.passed = 0
        at = {
            "offset": str(self._progress.offset),
            "ahead": (self._progress.ahead_row or b"").decode(),
            "end": str(self._end) if self._end else None,
            "replayed": self._replayed,
            "again": self._again,
        }
        self._rows.put(_AT, orjson.dumps(at))

    def _begin(self, event: Event[Payload]) -> None:
        wanted = event.payload
        if not isinstance(wanted, LettersRequested):
            msg = f"found {event.event_type} where a request was stored"
            raise TypeError(msg)
        self._request = event
        self._first = {key: Offset.parse(first) for key, first in wanted.keys.items()}
        self._passed_over = frozenset(map(Offset.parse, wanted.without))
        self._single = frozenset(map(Offset.parse, wanted.replayed))
        first = min((*self._first.values(), *self._single))
        self._progress = Progress(Offset(max(0, first.ms - 1), 0))
        self._end = None
        self._replayed = self._again = 0

    def _letter(self, record: Record) -> Letter | None:
        if record.key != self._stage:  # the key of dead letters is their stage
            return None
        try:
            payload = record.event.payload
        except BadInputError:
            return None  # somebody else put it there
        request = self._request
        if isinstance(payload, LettersTaken) and request is not None and payload.request == request.id:
            self._end = record.offset
        if not isinstance(payload, EventDeadLettered) or payload.partition != self._partition or payload.window:
            return None
        first = self._first.get(payload.key)
        of_a_key = first is not None and record.offset >= first and record.offset not in self._passed_over
        return Letter(record.offset, payload) if of_a_key or record.offset in self._single else None

    def _note(self, payload: LettersTaken | ReplayEnded, what: str, request: Event[Payload]) -> Output:
        note: Event[Payload] = Event(
            id=derived_id(f"letters-{what}", request.id, self._stage, self._partition),
            timestamp=request.timestamp,
            source=self._stage,
            payload=payload,
            correlation_id=request.correlation_id or request.id,
            causation_id=request.id,
        )
        return output_for(DEAD_LETTERS, note)


def id_of(record: Record) -> RecordId:
    """What names a record in verdicts.  A letter is not the record it was: the verdict on that one does not count."""
    if isinstance(record, Letter):
        return PLACE, record.at
    return (record.stream, record.partition), record.id if isinstance(record, PassedRecord) else record.offset


def _type_of(value: bytes) -> str:
    """The event type, which decides whether the stage wants it; empty for what cannot be decoded anyway."""
    try:
        return str(orjson.loads(value)["event_type"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
