"""What monitors conclude from signals."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from topology.event import Payload
from topology.registry import event_type

Severity = Literal["info", "warning", "high", "critical"]


class Finding(Payload):
    """Something is wrong with a service.

    Attributes:
        kind: the symptom in the field's terms, dotted, stable over time: ``health.refused``, ``latency.high``,
            ``memory.high``, ``log.errors``, ``metric.surprise``.  (service, kind, subject) names one symptom.
        subject: what of the service when ``kind`` alone is not enough: a metric, a log template.
        evidence: the ids of the signals it rests on; never copies of them, so that masking is done once.
    """

    service: str
    system: str
    kind: str = Field(min_length=1)
    subject: str = ""
    severity: Severity = "warning"
    summary: str = ""
    evidence: tuple[UUID, ...] = ()

    @property
    def symptom(self) -> tuple[str, str, str]:
        """What identifies this symptom until it clears."""
        return self.service, self.kind, self.subject


@event_type("anomaly.detected")
class AnomalyDetected(Finding):
    """A value, a rate or a silence is not as it should be."""

    value: float | None = None
    expected: str = ""
    score: float | None = None
    """Surprise as -log10 of the probability, where the detector has one."""


@event_type("anomaly.cleared")
class AnomalyCleared(Finding):
    """The symptom of an earlier :class:`AnomalyDetected` is gone."""


@event_type("pattern.matched")
class PatternMatched(Finding):
    """Several events together fit a declared or learned pattern."""

    pattern: str = ""
    pattern_version: int = 1
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)


@event_type("forecast.warned")
class ForecastWarned(Finding):
    """A limit will be reached; the earliest and the likely time in seconds from now."""

    metric: str
    limit: float
    eta_likely_s: float = Field(ge=0.0)
    eta_earliest_s: float = Field(ge=0.0)
