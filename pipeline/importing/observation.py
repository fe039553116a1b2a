"""What an importer finds in a file: that something was said, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from pipeline.importing.inputs import Inputs
from pipeline.security.masking import mask_event
from pipeline.sources.formats.body import MalformedBodyError
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads.signals import Signal
from topology.registry import parse_payload

_LATEST_US = 253_402_300_799_999_999
"""The last moment of the year 9999."""
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that was said.

    Attributes:
        at_us: when it happened, in microseconds since the epoch.
        id: of what has an identity in its format; else it is derived from all that was said.
        metadata: of the event.

    Raises:
        MalformedBodyError: it happened before 1970 or after the year 9999, where recordings have no place for it.
    """

    at_us: int
    payload: Payload
    id: UUID | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.at_us <= _LATEST_US:
            raise MalformedBodyError(f"a time {self.at_us / 1e6:,.0f} s after 1970", "one in the years 1970 to 9999")

    def event(self, source: str) -> Event[Payload]:
        """The event, masked: the same wherever, whenever and from whatever file it is imported.

        Two that say the same at the same time have the same id; who keeps both tells them apart.
        """
        moment: datetime = from_us(self.at_us)
        said = Event(
            id=self.id or _NO_ID,
            timestamp=moment,
            source=source,
            payload=self.payload,
            metadata=self.metadata or {},
        )
        masked = mask_event(said)
        if self.id is not None:
            return masked
        # Without defaults, so that a release whose payloads can say more derives the same.
        content = masked.payload.model_dump_json(exclude_defaults=True)
        identity = derived_id("import", source, masked.event_type, self.at_us, content)
        return Event(
            id=identity, timestamp=moment, source=source, payload=masked.payload, metadata=masked.metadata
        )  # fmt: skip


class Importer(Protocol):
    """A format.

    Attributes:
        source: of its events.
        gives: the payloads it finds.
        repeats: whether the same may be said twice, so that both count; else what is repeated is dropped.
    """

    @property
    def source(self) -> str: ...

    @property
    def gives(self) -> tuple[type[Signal], ...]: ...

    @property
    def repeats(self) -> bool: ...

    def read(self, path: Path, inputs: Inputs) -> Iterator[Observation]:
        """What is in a file, in the order of the file.

        Raises:
            UnreadableInputError: something in it cannot be understood, and is not to be left out.
        """


def signal(kind: type[Signal], **fields: Any) -> Payload:
    """A payload of values that come from outside; raises ``InvalidEventError`` where they do not fit."""
    return parse_payload(kind.event_type, kind.version, fields)
