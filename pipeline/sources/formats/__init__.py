"""Foreign payloads to our events: pure functions, shared by the HTTP door and ``aiops ingest``.

Each takes the bytes that came in and the circumstances (:class:`Reception`), and gives events or raises ``BadInputError``
that names the item and the field.  Nothing is half-accepted: one bad item refuses the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pipeline.sources.formats import alertmanager, cloudevents, events
from pipeline.sources.formats.body import Reception as Reception
from topology.event import Event, Payload

Format = Callable[[bytes, Reception], list[Event[Payload]]]

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "alertmanager": alertmanager.read,
        "cloudevents": cloudevents.read,
        "events": events.read,
    }
)
"""What ``aiops ingest FORMAT FILE`` understands."""
