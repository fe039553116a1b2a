"""What a recording says of itself: which streams, of which topology, from when to when, and how their events are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from pipeline.engine.record import BEGINNING, Offset
from pipeline.recordings.layout import Block
from topology.errors import AiopsError, UnknownEventTypeError
from topology.graph import Stream
from topology.payloads import TickPassed
from topology.registry import payload_class


class UnlikeRecordingsError(AiopsError):
    """Recordings cannot become one: they are of streams that differ."""


OffsetText = Annotated[
    Offset,
    BeforeValidator(lambda found: Offset.parse(found) if isinstance(found, str) else found),
    PlainSerializer(str, return_type=str),
]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedStream(_Said):
    """A stream as it was: the field that is its key, and its number of partitions."""

    key: str
    partitions: int


class Part(_Said):
    """One call of ``aiops record``, and what was cut out of it since.

    Attributes:
        recorded_at: when.
        topology: the name of the topology.
        digest: of its declaration; see :func:`topology.digest.topology_digest`.
        since: only what came after it; None for everything there was.
        until: only what came up to it.
        filters: what records had to fulfil, each of them.
    """

    recorded_at: datetime
    topology: str
    digest: str
    since: OffsetText | None = None
    until: OffsetText | None = None
    filters: tuple[str, ...] = ()


class Header(_Said):
    """The first line of a recording.

    Attributes:
        streams: those that were asked for, whether or not they said anything.
        schemas: the version in which each event type was written, of all that the streams carry.
        parts: more than one where recordings were merged.
    """

    streams: Mapping[str, RecordedStream]
    schemas: Mapping[str, int]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, streams: Iterable[Stream], part: Part) -> Header:
        """The header of a recording of these streams."""
        chosen = sorted(streams, key=lambda stream: stream.name)
        carried = {TickPassed}.union(*(stream.carries for stream in chosen))
        return cls(
            streams={each.name: RecordedStream(key=each.spec.key, partitions=each.partitions) for each in chosen},
            schemas={each.event_type: each.version for each in sorted(carried, key=lambda each: each.event_type)},
            parts=(part,),
        )

    def merged_with(self, other: Header) -> Header:
        """The header of what both have.

        Raises:
            UnlikeRecordingsError: a stream has another key or another number of partitions, or an event type is written
                in another version.
        """
        for what, mine, theirs in (
            ("stream", self.streams, other.streams),
            ("version of event type", self.schemas, other.schemas),
        ):
            for name in sorted(set(mine) & set(theirs)):
                if mine[name] != theirs[name]:
                    msg = (
                        f"found {what} {name!r} as {mine[name]} and as {theirs[name]}, expected the same in all "
                        f"recordings; merge only what one deployment said"
                    )
                    raise UnlikeRecordingsError(msg)
        return Header(
            streams=dict(sorted({**self.streams, **other.streams}.items())),
            schemas=dict(sorted({**self.schemas, **other.schemas}.items())),
            parts=tuple(dict.fromkeys((*self.parts, *other.parts))),
        )

    def cut(self, streams: Iterable[str], since: Offset | None, until: Offset | None, where: str | None) -> Header:
        """The header of a part of the recording; what is None stays as it was."""
        kept = set(streams)
        parts = tuple(
            part.model_copy(
                update={
                    "since": max((each for each in (since, part.since) if each is not None), default=None),
                    "until": min((each for each in (until, part.until) if each is not None), default=None),
                    "filters": (*part.filters, where) if where else part.filters,
                }
            )
            for part in self.parts
        )
        left = {name: stream for name, stream in self.streams.items() if name in kept}
        return Header(streams=left, schemas=self.schemas, parts=parts)

    def is_known(self, event_type: str) -> bool:
        """Whether this release can read events of a type as they were written."""
        try:
            return self.schemas.get(event_type, 1) <= payload_class(event_type).version
        except UnknownEventTypeError:
            return False


@dataclass(frozen=True, slots=True)
class Index:
    """Where everything is, and how much of it.

    Attributes:
        blocks: the header first.
        streams: how many records of each stream.
        types: how many records of each event type.
    """

    blocks: tuple[Block, ...]
    streams: Mapping[str, int]
    types: Mapping[str, int]

    @property
    def first(self) -> Offset:
        """Of the first record; ``BEGINNING`` when there is none."""
        return self.blocks[1].first if len(self.blocks) > 1 else BEGINNING

    @property
    def last(self) -> Offset:
        """Of the last record; ``BEGINNING`` when there is none."""
        return self.blocks[-1].last

    @property
    def records(self) -> int:
        """How many there are."""
        return sum(block.lines for block in self.blocks[1:])

    def event_times(self) -> tuple[int, int] | None:
        """The earliest and the latest, in microseconds; None when no event says one."""
        begins = [block.from_us for block in self.blocks if block.from_us is not None]
        ends = [block.to_us for block in self.blocks if block.to_us is not None]
        return (min(begins), max(ends)) if begins else None


def unknown_types(header: Header, types: Mapping[str, int]) -> dict[str, int]:
    """Of counted event types those that this release cannot read."""
    return dict(Counter({name: count for name, count in types.items() if not header.is_known(name)}).most_common())
