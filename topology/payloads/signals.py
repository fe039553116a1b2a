"""What systems say of themselves: the input of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from topology.event import Payload
from topology.registry import event_type

LogLevel = Literal["trace", "debug", "info", "warning", "error", "critical"]


class Signal(Payload):
    """Common to all signals.

    Attributes:
        service: who it is about; the key of the streams ``intake`` and ``signals``.
        system: the application the service belongs to; empty until ``normalize`` has filled it in.
        labels: further dimensions (instance, pod, region ...), never used as a key.
    """

    service: str = Field(min_length=1, max_length=256)
    system: str = Field(default="", max_length=256)
    labels: Mapping[str, str] = Field(default_factory=dict)


@event_type("metric.sampled")
class MetricSampled(Signal):
    """One value of one metric at one time; ``unit`` in UCUM terms (``By``, ``s``, ``%``, ``1``)."""

    metric: str = Field(min_length=1, max_length=256)
    value: float
    unit: str = "1"


@event_type("log.written")
class LogWritten(Signal):
    """One log entry, however many lines it has."""

    message: str
    level: LogLevel = "info"
    logger: str = ""
    origin: str = ""
    """The file, or other place, it was read from."""


@event_type("alert.fired")
class AlertFired(Signal):
    """A monitoring tool says that something is wrong; repeated while it lasts."""

    alert: str = Field(min_length=1)
    fingerprint: str = Field(min_length=1)
    """The same for one alert of one tool until it is resolved."""
    severity: str = "warning"
    summary: str = ""
    description: str = ""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    link: str = ""


@event_type("alert.resolved")
class AlertResolved(Signal):
    """A monitoring tool says that an alert is over."""

    alert: str = Field(min_length=1)
    fingerprint: str = Field(min_length=1)
    summary: str = ""


@event_type("change.applied")
class ChangeApplied(Signal):
    """Somebody changed something: a deployment, a configuration, a scale."""

    change: str = Field(min_length=1)
    """The change's name where it was made, such as a version or a commit."""
    kind: str = "deployment"
    summary: str = ""
    reversible: bool = False


@event_type("heartbeat.seen")
class HeartbeatSeen(Signal):
    """A probe asked a service for its health and got this answer.

    ``answer`` is ``ok``, or how it failed: ``refused``, ``timeout``, ``error`` or ``http_<status>``.
    """

    healthy: bool
    answer: str = "ok"
    latency_ms: float = Field(default=0.0, ge=0.0)
    detail: str = ""
