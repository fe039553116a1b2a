"""Make signals alike, whoever sent them: their system, their units, their words for severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.payloads.findings import Severity
from topology.payloads.signals import (
    AlertFired,
    AlertResolved,
    ChangeApplied,
    HeartbeatSeen,
    LogWritten,
    MetricSampled,
)
from topology.spec import SystemSpec

AnySignal = MetricSampled | LogWritten | AlertFired | AlertResolved | ChangeApplied | HeartbeatSeen

_SYSTEM_LABELS = ("system", "app.kubernetes.io/part-of", "service.namespace")

_SEVERITIES: Mapping[str, Severity] = {
    "none": "info", "ok": "info", "info": "info", "informational": "info", "notice": "info", "debug": "info",
    "low": "warning", "minor": "warning", "warn": "warning", "warning": "warning", "medium": "warning",
    "error": "high", "high": "high", "major": "high", "severe": "high",
    "critical": "critical", "crit": "critical", "fatal": "critical", "page": "critical", "emergency": "critical",
}  # fmt: skip


class Unit(BaseModel):
    """What a unit's name means in UCUM terms: ``value * factor`` of ``unit``."""

    model_config = ConfigDict(frozen=True)

    unit: str
    factor: float = 1.0


_UNITS: Mapping[str, Unit] = {
    "": Unit(unit="1"), "ratio": Unit(unit="1"), "count": Unit(unit="1"), "none": Unit(unit="1"),
    "percent": Unit(unit="%"), "pct": Unit(unit="%"),
    "bytes": Unit(unit="By"), "byte": Unit(unit="By"), "b": Unit(unit="By"),
    "kb": Unit(unit="By", factor=1e3), "kby": Unit(unit="By", factor=1e3), "kilobytes": Unit(unit="By", factor=1e3),
    "mb": Unit(unit="By", factor=1e6), "mby": Unit(unit="By", factor=1e6), "megabytes": Unit(unit="By", factor=1e6),
    "gb": Unit(unit="By", factor=1e9), "gby": Unit(unit="By", factor=1e9), "gigabytes": Unit(unit="By", factor=1e9),
    "kib": Unit(unit="By", factor=2**10), "kiby": Unit(unit="By", factor=2**10),
    "mib": Unit(unit="By", factor=2**20), "miby": Unit(unit="By", factor=2**20),
    "gib": Unit(unit="By", factor=2**30), "giby": Unit(unit="By", factor=2**30),
    "seconds": Unit(unit="s"), "second": Unit(unit="s"), "sec": Unit(unit="s"),
    "ms": Unit(unit="s", factor=1e-3), "milliseconds": Unit(unit="s", factor=1e-3),
    "us": Unit(unit="s", factor=1e-6), "microseconds": Unit(unit="s", factor=1e-6),
    "ns": Unit(unit="s", factor=1e-9), "nanoseconds": Unit(unit="s", factor=1e-9),
    "min": Unit(unit="s", factor=60.0), "minutes": Unit(unit="s", factor=60.0), "h": Unit(unit="s", factor=3600.0),
}  # fmt: skip


class NormalizeConfig(AgentConfig):
    """``systems``: which services belong together."""

    systems: Mapping[str, SystemSpec] = {}


class Normalize(Agent[AnySignal, AnySignal]):
    """Gives every signal its system and common units, and lets all of them pass.

    The system is the declared one of the service; else what the signal says itself; else one of its labels ``system``,
    ``app.kubernetes.io/part-of`` or ``service.namespace``; else the service, as a system of its own.  Values in scaled
    units become UCUM base units (``MiB`` -> ``By``, ``ms`` -> ``s``); unknown units stay.

    Remembers: nothing.
    """

    Config = NormalizeConfig

    def process(self, event: Event[AnySignal], world: World) -> Iterable[AnySignal]:
        """One signal in, the same signal out."""
        del world
        signal = event.payload
        changed: dict[str, object] = {}
        system = self._system_of(signal)
        if system != signal.system:
            changed["system"] = system
        if isinstance(signal, MetricSampled):
            meant = _UNITS.get(signal.unit.lower())
            if meant is not None and meant.unit != signal.unit:
                changed.update(unit=meant.unit, value=signal.value * meant.factor)
        elif isinstance(signal, AlertFired):
            changed["severity"] = _SEVERITIES.get(signal.severity.strip().lower(), "warning")
        yield signal.model_copy(update=changed) if changed else signal

    @cached_property
    def _declared(self) -> Mapping[str, str]:
        systems: Mapping[str, SystemSpec] = self.config.systems
        return {service: name for name, system in systems.items() for service in system.services}

    def _system_of(self, signal: AnySignal) -> str:
        declared = self._declared.get(signal.service)
        if declared is not None:
            return declared
        if signal.system:
            return signal.system
        return next((signal.labels[label] for label in _SYSTEM_LABELS if signal.labels.get(label)), signal.service)
