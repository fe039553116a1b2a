"""What a stage's conclusions become on the streams: events with derived ids, routed by type, keyed by payload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from pipeline.engine.attempt import AnswerFailedError
from pipeline.engine.record import Output, Record, output_for, partition_of
from pipeline.engine.verdict import Verdict
from topology.codec import encode_derived, written_moment
from topology.errors import TopologyError
from topology.event import Event, JsonObject, Payload
from topology.graph import Stage, Stream
from topology.ids import consequence_id, derived_id, derived_text
from topology.moments import from_us, text_of_us
from topology.payloads.operation import (
    AnswerRecorded,
    EntryCameLate,
    EventDeadLettered,
    EventsShed,
    LettersTaken,
    ReplayEnded,
)
from topology.spec import StreamSpec
from topology.state import ClosedWindow, LateEntry


def _operation_stream(name: str, *payloads: type[Payload], retain: timedelta) -> Stream:
    carries = tuple(payload.__name__ for payload in payloads)
    return Stream(name, frozenset(payloads), StreamSpec(carries=carries, key="stage", partitions=1, retain=retain))


DEAD_LETTERS = _operation_stream(
    "dead-letters", EventDeadLettered, LettersTaken, ReplayEnded, retain=timedelta(days=30)
)
LATE = _operation_stream("late", EntryCameLate, retain=timedelta(days=1))
ANSWERS = _operation_stream("answers", AnswerRecorded, retain=timedelta(days=1))
_NOTHING: JsonObject = {}
SHED = _operation_stream("shed", EventsShed, retain=timedelta(days=30))
OPERATION_STREAMS = (DEAD_LETTERS, LATE, ANSWERS, SHED)
"""Streams every topology has, whatever it declares."""


def dead_letter(stage: str, record: Record, verdict: Verdict, *, window: ClosedWindow | None = None) -> Output:
    """The original record with the reason why it was given up; or why a window was, which the record closed."""
    about: tuple[str | int, ...] = (record.stream, record.partition, str(record.offset))
    reason = verdict.reason
    if window is not None:
        about = _result_of(window) if window.final else (*about, *_result_of(window))
        which = "the window" if window.final else f"early result {window.revision} of the window"
        reason = f"{which} of {window.key!r} in {window.table!r} that ends at {from_us(window.end_us)}: {reason}"
    payload = EventDeadLettered(
        stage=stage,
        stream=record.stream,
        partition=record.partition,
        offset=str(record.offset),
        key=record.key if window is None else window.key,
        attempts=verdict.attempts,
        error=verdict.error,
        reason=reason.encode(errors="replace").decode(),  # half a surrogate pair could not be written
        event=record.value.decode(errors="replace"),
        window=window is not None,
    )
    letter: Event[Payload] = Event(
        id=derived_id("dead-letter", stage, *about),
        timestamp=from_us(record.offset.ms * 1000),
        source=stage,
        payload=payload,
    )
    return output_for(DEAD_LETTERS, letter)


class OutputBuilder:
    """Makes the outputs of one stage's partition.

    Ids are derived from the cause, the stage and the ordinal (of a window: from the window), so a redelivery gives the
    same ones.
    """

    def __init__(self, stage: Stage, partition: int) -> None:
        self._stage = stage
        self._id = stage.id
        self._partition = partition
        self._late, self._answers = _Route(LATE, EntryCameLate), _Route(ANSWERS, AnswerRecorded)
        self._routes = {
            kind: _Route(stream, kind) if stream.stored else _RouteWithin(stream, kind, partition)
            for kind, stream in stage.routes.items()
        }

    def caused_by(self, event: Event[Payload], concluded: Iterable[Payload]) -> Iterator[Output]:
        """Outputs of processing one event, at the event's time."""
        for ordinal, payload in enumerate(concluded):
            yield self._routed(payload, consequence_id(event.id_text, self._id, ordinal), event)

    def of_window(
        self, trigger: Event[Payload], closed: ClosedWindow, concluded: Iterable[Payload], now_us: int
    ) -> Iterator[Output]:
        """Outputs of a final result, at the window's end; or of an early one, at the latest event time the stage has met.

        The ids of early results name the trigger too: a key that was evicted counts its revisions from 0 again.
        """
        about = self._id, *_result_of(closed)
        at_us = closed.end_us if closed.final else now_us
        metadata = _NOTHING if closed.final and not closed.revision else _revision_of(closed)
        for ordinal, payload in enumerate(concluded):
            if closed.final:
                event_id = derived_text(*about, ordinal)
            else:
                event_id = consequence_id(trigger.id_text, *about, ordinal)
            yield self._routed(payload, event_id, trigger, at_us=at_us, metadata=metadata)

    def late(self, event: Event[Payload], entries: Iterable[LateEntry]) -> Iterator[Output]:
        """What became of the event's entries in one table that came too late for their windows."""
        for ordinal, entry in enumerate(entries):
            payload = EntryCameLate(stage=self._stage.id, table=entry.table, key=entry.key, event=event.id)
            event_id = consequence_id(event.id_text, self._id, "late", entry.table, ordinal)
            yield self._output(self._late, payload, event_id, event)

    def answer_recorded(self, event: Event[Payload], key: str, answer: Any) -> Output:
        """The world's answer as an event, for recordings."""
        payload = AnswerRecorded(
            stage=self._stage.id,
            event=event.id,
            question=key,
            answer=str(answer) if isinstance(answer, AnswerFailedError) else answer,
        )
        return self._output(self._answers, payload, derived_text("answer", self._id, key), event)

    def _routed(
        self,
        payload: Payload,
        event_id: str,
        cause: Event[Payload],
        *,
        at_us: int | None = None,
        metadata: JsonObject = _NOTHING,
    ) -> Output:
        route = self._routes.get(type(payload))
        if route is None:
            routed = ", ".join(sorted(kind.__name__ for kind in self._stage.routes)) or "nothing"
            msg = (
                f"stage {self._stage.id!r} emitted {type(payload).__name__}, but its outputs carry {routed}; "
                f"add the type to the agent's declared outputs and to a stream it emits to"
            )
            raise TopologyError(msg)
        return self._output(route, payload, event_id, cause, at_us, metadata)

    def _output(
        self,
        route: _Route,
        payload: Payload,
        event_id: str,
        cause: Event[Payload],
        at_us: int | None = None,
        metadata: JsonObject = _NOTHING,
    ) -> Output:
        key = route.key_of(payload)
        moment = written_moment(cause) if at_us is None else text_of_us(at_us)
        # An incident is the story everything about it belongs to; before there is one, the first signal is.
        incident = payload.incident if route.tells_incident else None  # type: ignore[attr-defined]
        correlation = str(incident) if incident else cause.correlation_text or cause.id_text
        value = encode_derived(event_id, moment, self._id, payload, correlation, cause.id_text, metadata)
        return Output(route.stream, partition_of(key, route.partitions), key, payload.event_type, event_id, value)


class _Route:
    """What is the same for all payloads of a type on their way to a stream."""

    __slots__ = ("key_of", "partitions", "stream", "tells_incident")

    def __init__(self, stream: Stream, kind: type[Payload]) -> None:
        self.stream, self.partitions, self.key_of = stream.name, stream.partitions, stream.key_of
        # Asking a model for a field it lacks is slow, and most payloads lack this one.
        self.tells_incident = "incident" in kind.model_fields


class _RouteWithin(_Route):
    """The same of a stream that is passed on in memory, and so cannot leave the partition."""

    __slots__ = ("_partition", "_stream")

    def __init__(self, stream: Stream, kind: type[Payload], partition: int) -> None:
        super().__init__(stream, kind)
        self._stream, self._partition = stream, partition
        self.key_of = self._key_that_stays

    def _key_that_stays(self, payload: Payload) -> str:
        key = self._stream.key_of(payload)
        if partition_of(key, self.partitions) != self._partition:
            msg = (
                f"found {payload.event_type} of {key!r}, which is of another partition, where {self.stream!r} is passed on "
                f"in memory; let the stage keep the key of what it read, or take `stored: false` from the stream"
            )
            raise TopologyError(msg)
        return key


def _result_of(closed: ClosedWindow) -> tuple[str | int, ...]:
    """What tells a window's results apart from each other and from those of other windows of the stage."""
    window = closed.table, closed.key, closed.start_us, closed.end_us
    return window if closed.final else (*window, "early", closed.revision)


def _revision_of(closed: ClosedWindow) -> JsonObject:
    """What tells consumers which results replace which: those of one source, table, key and end, in order of revision."""
    return {
        "window": {
            "table": closed.table,
            "key": closed.key,
            "start": from_us(closed.start_us),
            "end": from_us(closed.end_us),
            "revision": closed.revision,
            "final": closed.final,
        }
    }
