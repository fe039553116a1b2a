"""What the systems are saying right now: the last value of each signal worth a glance, and how fast events come."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from topology.event import Event, Payload
from topology.payloads import HeartbeatSeen, LogWritten, MetricSampled

_RATE_OVER_S = 10.0

_SHOWN = {
    "system.cpu.utilization": ("cpu", "share"),
    "system.memory.utilization": ("memory", "share"),
    "system.filesystem.utilization": ("disk", "share"),
    "system.cpu.load_average.1m": ("load", "number"),
    "process.memory.usage": ("memory", "bytes"),
    "process.cpu.utilization": ("cpu", "share"),
}


@dataclass(slots=True)
class ServicePulse:
    """The last thing heard of one service, in words by topic."""

    health: str = ""
    values: dict[str, str] = field(default_factory=dict)
    errors: int = 0


class Pulse:
    """Fed with signals; asked by the screen."""

    def __init__(self) -> None:
        self._services: dict[str, ServicePulse] = {}
        self._heard: deque[tuple[float, int]] = deque()

    @property
    def services(self) -> Mapping[str, ServicePulse]:
        """By service, in order of first appearance."""
        return self._services

    def health_of(self, service: str) -> str:
        """The service's last answer to a probe; empty when there was none."""
        pulse = self._services.get(service)
        return pulse.health if pulse else ""

    def take(self, event: Event[Payload]) -> None:
        """Take in one signal; other events are passed over."""
        payload = event.payload
        if isinstance(payload, HeartbeatSeen):
            pulse = self._of(payload.service)
            pulse.health = f"{payload.answer} {payload.latency_ms:.0f} ms" if payload.healthy else payload.answer
        elif isinstance(payload, MetricSampled) and payload.metric in _SHOWN:
            topic, form = _SHOWN[payload.metric]
            self._of(payload.service).values[topic] = _shown(payload.value, form)
        elif isinstance(payload, LogWritten) and payload.level in {"error", "critical"}:
            self._of(payload.service).errors += 1

    def count(self, now_s: float, events: int) -> None:
        """Note that so many events were heard by now."""
        self._heard.append((now_s, events))
        while self._heard[0][0] < now_s - _RATE_OVER_S:
            self._heard.popleft()

    @property
    def events_per_s(self) -> float:
        """Over the last ten seconds."""
        if len(self._heard) < 2:
            return 0.0
        span_s = self._heard[-1][0] - self._heard[0][0]
        return sum(events for _, events in list(self._heard)[1:]) / span_s if span_s > 0 else 0.0

    def _of(self, service: str) -> ServicePulse:
        return self._services.setdefault(service, ServicePulse())


def _shown(value: float, form: str) -> str:
    if form == "share":
        return f"{value:.0%}"
    return f"{value / 1e6:.0f} MB" if form == "bytes" else f"{value:.2f}"
