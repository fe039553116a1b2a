"""What moves between a mesh and a stage: records in, one commit out."""

from __future__ import annotations

from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from topology.codec import decode, decode_all, encode
from topology.errors import InvalidEventError
from topology.event import Event, Payload
from topology.graph import Stream


class Offset(NamedTuple):
    """A place in a partition, as the mesh assigned it: milliseconds of its clock, and a number within them.

    Offsets of one mesh order what happened across streams too, as far as its clock can tell.
    """

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str | bytes) -> Offset:
        """Read ``str(offset)``."""
        ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(seq or 0))


SEQ_MAX = 2**64 - 1
"""The last number there can be within a millisecond."""

BEGINNING = Offset(0, 0)
"""Before the first record."""

Place = tuple[str, int]
"""A stream's name and a partition."""


class Record:
    """One event as it lies in a partition; its offset and the event are read once, and only when somebody wants them.

    Args:
        offset: also as the text the mesh has for it.

    Attributes:
        decoded: the event, once somebody wanted it.
    """

    __slots__ = ("_offset", "decoded", "event_type", "key", "partition", "stream", "value")

    def __init__(
        self, stream: str, partition: int, offset: Offset | bytes, key: str, event_type: str, value: bytes
    ) -> None:
        self.stream = stream
        self.partition = partition
        self.key = key
        self.event_type = event_type
        self.value = value
        self._offset = offset
        self.decoded: Event[Payload] | None = None

    @property
    def offset(self) -> Offset:
        """Where it lies."""
        offset = self._offset
        if isinstance(offset, bytes):
            offset = self._offset = Offset.parse(offset)
        return offset

    @property
    def event(self) -> Event[Payload]:
        """The decoded event; raises ``BadInputError`` when it cannot be decoded."""
        if self.decoded is None:
            self.decoded = decode(self.value)
        return self.decoded


class PassedRecord(Record):
    """A record that lies nowhere, on its way from one stage to the next in the same task.

    Its offset only counts, so what is to be known of it after a restore goes by its event's id.
    """

    __slots__ = ("id",)

    def __init__(self, output: Output, offset: Offset) -> None:
        super().__init__(output.stream, output.partition, offset, output.key, output.event_type, output.value)
        self.id = output.id


def decode_together(records: Iterable[Record], types: Container[str]) -> None:
    """Decode the events of some types at once, which is faster; what cannot be decoded is left to be told singly."""
    unread = [record for record in records if record.decoded is None and record.event_type in types]
    with suppress(InvalidEventError):
        for record, event in zip(unread, decode_all([record.value for record in unread]), strict=True):
            record.decoded = event


class Output(NamedTuple):
    """An encoded event on its way into a partition.

    Attributes:
        id: of the event, as it is written.
    """

    stream: str
    partition: int
    key: str
    event_type: str
    id: str
    value: bytes

    @property
    def has_derived_id(self) -> bool:
        """Whether the id says what the event is (UUID version 5), and is no random one."""
        return self.id[14] == "5"


@dataclass(slots=True)
class Commit:
    """Everything one step of a stage's partition changes; it takes effect as a whole or not at all.

    Attributes:
        offsets: per input stream: every record up to here is done.
        records: per input stream: how many records that is since the last commit, for the lag other tools show.
        state: rows to set, or to delete where None.
        answered: keys of recorded answers that are no longer needed, because their event is done.
    """

    stage: str
    partition: int
    offsets: dict[Place, Offset]
    records: dict[Place, int] = field(default_factory=dict)
    state: dict[str, bytes | None] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Restored:
    """What the mesh holds of a stage's partition: the sum of its commits, and answers of events not yet done.

    Attributes:
        state: its rows, or some thousands of them when there are more.
        rows: how many there are in all.
        more: where the mesh finds the others; 0 when these are all.
    """

    offsets: dict[Place, Offset] = field(default_factory=dict)
    state: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    more: int = 0


class RestoredPart(NamedTuple):
    """Some more rows; a row may come in several parts.

    Attributes:
        more: where the mesh finds the rest; 0 when there is none.
    """

    state: dict[str, bytes]
    more: int


def output_for(
    stream: Stream, event: Event[Payload], *, key: str | None = None, partition: int | None = None
) -> Output:
    """Encode an event for a stream; its key decides the partition unless one is given."""
    key = stream.key_of(event.payload) if key is None else key
    if partition is None:
        partition = partition_of(key, stream.partitions)
    return Output(stream.name, partition, key, event.event_type, event.id_text, encode(event))


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: murmur2 as Kafka's default partitioner computes it, so that both meshes agree."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """32-bit MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k ^= k >> 24
        h = (h * m & mask) ^ (k * m & mask)
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h ^= h >> 13
    h = h * m & mask
    return h ^ (h >> 15)
