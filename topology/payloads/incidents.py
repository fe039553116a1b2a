"""Findings that share a cause, as one story."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from topology.event import Payload
from topology.payloads.findings import Severity
from topology.registry import event_type

TRAILING_KINDS = ("log.", "metric.", "alert.", "pattern.", "forecast.")
"""Families of symptoms that go on for a while after their cause is gone."""


class Symptom(Payload):
    """One symptom of an incident; ``cleared_at`` is None while it lasts."""

    service: str
    kind: str
    subject: str = ""
    severity: Severity = "warning"
    summary: str = ""
    seen_at: datetime
    cleared_at: datetime | None = None


class Change(Payload):
    """A change shortly before or during the incident."""

    service: str
    change: str
    kind: str
    summary: str = ""
    reversible: bool = False
    at: datetime


class _Incident(Payload):
    """The whole incident as it stands now, so that a reader needs no earlier event.

    Attributes:
        incident: derived from the first finding, never from the clock.
        symptoms: in the order they were seen, cleared ones included.
        why: why these findings were put together.
    """

    incident: UUID
    system: str
    title: str
    severity: Severity
    opened_at: datetime
    symptoms: tuple[Symptom, ...] = Field(min_length=1)
    changes: tuple[Change, ...] = ()
    why: str = ""

    @property
    def open_symptoms(self) -> tuple[Symptom, ...]:
        """Those that have not cleared."""
        return tuple(s for s in self.symptoms if s.cleared_at is None)

    @property
    def telling_symptoms(self) -> tuple[Symptom, ...]:
        """The symptoms, open or cleared, that say whether the incident lasts.

        Those of severity ``info`` are context.  Those seen through a window or somebody else's eyes outlast their
        cause; they count only when the incident never had any other.
        """
        counted = tuple(s for s in self.symptoms if s.severity != "info")
        return tuple(s for s in counted if not s.kind.startswith(TRAILING_KINDS)) or counted

    @property
    def pressing_symptoms(self) -> tuple[Symptom, ...]:
        """The telling symptoms that have not cleared; the incident lasts while there are any."""
        return tuple(s for s in self.telling_symptoms if s.cleared_at is None)


@event_type("incident.opened")
class IncidentOpened(_Incident):
    """The first finding of a new story."""


@event_type("incident.updated")
class IncidentUpdated(_Incident):
    """A symptom was added, cleared or came back."""


@event_type("incident.resolved")
class IncidentResolved(_Incident):
    """Every symptom has been gone for the correlator's quiet time."""

    resolved_at: datetime
