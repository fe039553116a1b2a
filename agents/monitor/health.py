"""Notice from probes that a service is down, broken or slow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.event import Event
from topology.moments import span_us
from topology.payloads.findings import AnomalyCleared, AnomalyDetected, Severity
from topology.payloads.operation import TickPassed
from topology.payloads.signals import HeartbeatSeen

Noticed = AnomalyDetected | AnomalyCleared

_PHRASES: Mapping[str, tuple[Severity, str]] = {
    "health.refused": ("critical", "refuses connections"),
    "health.timeout": ("critical", "does not answer in time"),
    "health.error": ("high", "breaks off the connection"),
    "latency.high": ("high", "answers slowly"),
}


class HealthConfig(AgentConfig):
    """When answers to probes are a symptom.

    Attributes:
        failures_max: so many failed probes in a row are a symptom.
        successes_min: so many good ones in a row are the end of it.
        latency_ms_max: a good answer that takes longer is slow; ``latency_ms_max_of`` overrides it for a service.
        latency_samples: so many slow answers in a row are a symptom, so many fast ones the end of it.
        forget_after: the symptoms of a service that has not been probed for so long are dropped.
    """

    failures_max: int = Field(default=2, ge=1)
    successes_min: int = Field(default=2, ge=1)
    latency_ms_max: float = Field(default=150.0, gt=0.0)
    latency_ms_max_of: Mapping[str, float] = {}
    latency_samples: int = Field(default=4, ge=1)
    forget_after: Duration = timedelta(minutes=10)


class Pulse(BaseModel):
    """What the last probes of one service said.

    ``run`` counts answers of the kind ``last`` in a row, ``failures`` failed ones of any kind; ``down`` and ``slow``
    are the symptoms that are open.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    seen_us: int = 0
    last: str = "ok"
    run: int = 0
    failures: int = 0
    down: str = ""
    slow: bool = False
    slow_run: int = 0
    fast_run: int = 0
    failed_ids: tuple[UUID, ...] = ()


class HealthDetector(Agent[HeartbeatSeen | TickPassed, Noticed]):
    """Finds ``health.refused``, ``.timeout``, ``.error``, ``.http_<status>`` and ``latency.high``.

    A service has at most one ``health`` symptom at a time.  When a failing service begins to fail in another way, the
    new symptom is detected before the old one is cleared, so that it never looks healthy in between.

    Remembers: the last answers of each service, in one small row.
    """

    Config = HealthConfig

    pulses = Keyed("pulses", value=Pulse)

    def process(self, event: Event[HeartbeatSeen | TickPassed], world: World) -> Iterable[Noticed]:
        """One probe's answer in; what has begun or ended out."""
        del world
        if isinstance(event.payload, TickPassed):
            yield from self._forget(event.at_us)
            return
        beat = event.payload
        pulse = self.pulses.get(beat.service) or Pulse(system=beat.system)
        pulse = pulse.model_copy(update={"system": beat.system, "seen_us": event.at_us})
        if beat.healthy:
            pulse, noticed = self._after_success(pulse, beat, event.id)
        else:
            pulse, noticed = self._after_failure(pulse, beat, event.id)
        self.pulses.put(beat.service, pulse)
        yield from noticed

    def _after_failure(self, pulse: Pulse, beat: HeartbeatSeen, seen: UUID) -> tuple[Pulse, list[Noticed]]:
        config: HealthConfig = self.config
        kind = f"health.{beat.answer}"
        run = pulse.run + 1 if pulse.last == beat.answer else 1
        failures = pulse.failures + 1
        evidence = (*pulse.failed_ids, seen)[-config.failures_max :]
        down = pulse.down
        noticed: list[Noticed] = []
        # A first symptom needs failures of any kind; to change its kind, the new one must be just as persistent.
        if failures >= config.failures_max and (not down or (kind != down and run >= config.failures_max)):
            noticed.append(_detected(beat.service, pulse.system, kind, evidence, f"{failures} probes in a row"))
            if down:
                noticed.append(_cleared(beat.service, pulse.system, down, evidence))
            down = kind
        after = {"last": beat.answer, "run": run, "failures": failures, "down": down, "failed_ids": evidence}
        return pulse.model_copy(update=after), noticed

    def _after_success(self, pulse: Pulse, beat: HeartbeatSeen, seen: UUID) -> tuple[Pulse, list[Noticed]]:
        config: HealthConfig = self.config
        run = pulse.run + 1 if pulse.last == "ok" else 1
        down, slow = pulse.down, pulse.slow
        limit_ms = config.latency_ms_max_of.get(beat.service, config.latency_ms_max)
        is_slow = beat.latency_ms > limit_ms
        slow_run = pulse.slow_run + 1 if is_slow else 0
        fast_run = 0 if is_slow else pulse.fast_run + 1
        noticed: list[Noticed] = []
        if not slow and slow_run >= config.latency_samples:
            slow = True
            detail = f"{beat.latency_ms:.0f} ms, {slow_run} answers in a row above {limit_ms:g} ms"
            found = _detected(beat.service, pulse.system, "latency.high", (seen,), detail)
            noticed.append(found.model_copy(update={"value": beat.latency_ms, "expected": f"at most {limit_ms:g} ms"}))
        elif slow and fast_run >= config.latency_samples:
            slow = False
            noticed.append(_cleared(beat.service, pulse.system, "latency.high", (seen,)))
        if down and run >= config.successes_min:
            noticed.append(_cleared(beat.service, pulse.system, down, (seen,)))
            down = ""
        after = {
            "last": "ok", "run": run, "failures": 0, "down": down, "failed_ids": (),
            "slow": slow, "slow_run": slow_run, "fast_run": fast_run,
        }  # fmt: skip
        return pulse.model_copy(update=after), noticed

    def _forget(self, now_us: int) -> Iterable[Noticed]:
        oldest_us = now_us - span_us(self.config.forget_after)
        for service, pulse in self.pulses.items():
            if pulse.seen_us > oldest_us:
                break  # the least recently probed come first
            self.pulses.delete(service)
            for kind in (pulse.down, "latency.high" if pulse.slow else ""):
                if kind:
                    yield _cleared(service, pulse.system, kind, (), "is not probed any more")


def _phrase(kind: str) -> tuple[Severity, str]:
    return _PHRASES.get(kind, ("high", f"answers {kind.removeprefix('health.http_')}"))


def _detected(service: str, system: str, kind: str, evidence: tuple[UUID, ...], detail: str) -> AnomalyDetected:
    severity, phrase = _phrase(kind)
    summary = f"{service} {phrase} ({detail})"
    return AnomalyDetected(
        service=service, system=system, kind=kind, severity=severity, summary=summary, evidence=evidence
    )


def _cleared(
    service: str, system: str, kind: str, evidence: tuple[UUID, ...], why: Literal["", "is not probed any more"] = ""
) -> AnomalyCleared:
    severity, phrase = _phrase(kind)
    summary = f"{service} {why}" if why else f"over: {service} {phrase}"
    return AnomalyCleared(
        service=service, system=system, kind=kind, severity=severity, summary=summary, evidence=evidence
    )
