"""Notice that a metric is beyond a limit its operator has set."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.payloads.findings import AnomalyCleared, AnomalyDetected, Severity
from topology.payloads.signals import MetricSampled

Noticed = AnomalyDetected | AnomalyCleared

# What one (service, metric) matches never changes, so it is found once; an attacker must not make this grow for ever.
_MATCHES_MAX = 20_000


class ThresholdRule(BaseModel):
    """One limit, in UCUM base units (``By``, ``s``), after ``normalize``.

    Attributes:
        metric, service: glob patterns.
        above, below: the value is bad beyond this; at least one of them.
        for_samples: so many bad samples in a row are a symptom, so many good ones the end of it.
        by: labels that tell series of one service apart, such as ``mountpoint``; they become the subject.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=r"^[a-z0-9_.-]+$")
    metric: str
    service: str = "*"
    above: float | None = None
    below: float | None = None
    for_samples: int = Field(default=2, ge=1)
    severity: Severity = "warning"
    by: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_a_limit(self) -> ThresholdRule:
        if self.above is None and self.below is None:
            msg = f"rule {self.kind!r} has neither above nor below, expected at least one of them"
            raise ValueError(msg)
        return self

    def is_bad(self, value: float) -> bool:
        """Whether the value is beyond the limit."""
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    def expected(self, unit: str) -> str:
        """The limits, for people."""
        parts = ((self.below, "at least"), (self.above, "at most"))
        return " and ".join(f"{word} {_shown(limit, unit)}" for limit, word in parts if limit is not None)


class ThresholdConfig(AgentConfig):
    """``rules``: the limits; none by default, for what is too much is the operator's to know."""

    rules: tuple[ThresholdRule, ...] = ()


class Streak(BaseModel):
    """Samples in a row that speak against the present verdict on a series."""

    model_config = ConfigDict(frozen=True)

    bad: bool = False
    against: int = 0


class ThresholdDetector(Agent[MetricSampled, Noticed]):
    """Finds the kinds its rules name, such as ``memory.high``; values that are not finite are left out.

    Remembers: a row for each series that is, or is about to be, beyond a limit; none for the others.
    """

    Config = ThresholdConfig

    streaks = Keyed("streaks", value=Streak)

    def __init__(self, config: AgentConfig | None = None) -> None:
        super().__init__(config)
        self._matches: dict[tuple[str, str], tuple[ThresholdRule, ...]] = {}

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[Noticed]:
        """One sample in; what has begun or ended out."""
        del world
        sample = event.payload
        rules = self._rules_for(sample)
        if not rules or not math.isfinite(sample.value):
            return
        for rule in rules:
            noticed = self._judge(rule, event)
            if noticed is not None:
                yield noticed

    def _judge(self, rule: ThresholdRule, event: Event[MetricSampled]) -> Noticed | None:
        sample = event.payload
        subject = ",".join(f"{label}={sample.labels.get(label, '')}" for label in rule.by)
        key = "|".join((rule.kind, sample.service, sample.metric, subject))
        streak = self.streaks.get(key) or Streak()
        if rule.is_bad(sample.value) == streak.bad:
            if streak.against:
                self._keep(key, Streak(bad=streak.bad))
            return None
        against = streak.against + 1
        if against < rule.for_samples:
            self._keep(key, Streak(bad=streak.bad, against=against))
            return None
        self._keep(key, Streak(bad=not streak.bad))
        return _ended(rule, event, subject) if streak.bad else _begun(rule, event, subject)

    def _keep(self, key: str, streak: Streak) -> None:
        if streak.bad or streak.against:
            self.streaks.put(key, streak)
        else:
            self.streaks.delete(key)

    def _rules_for(self, sample: MetricSampled) -> tuple[ThresholdRule, ...]:
        series = (sample.service, sample.metric)
        found = self._matches.get(series)
        if found is None:
            if len(self._matches) >= _MATCHES_MAX:
                self._matches.clear()
            found = tuple(
                rule
                for rule in self.config.rules
                if fnmatchcase(sample.metric, rule.metric) and fnmatchcase(sample.service, rule.service)
            )
            self._matches[series] = found
        return found


def _begun(rule: ThresholdRule, event: Event[MetricSampled], subject: str) -> AnomalyDetected:
    sample = event.payload
    where = f" ({subject})" if subject else ""
    expected = rule.expected(sample.unit)
    return AnomalyDetected(
        service=sample.service,
        system=sample.system,
        kind=rule.kind,
        subject=subject,
        severity=rule.severity,
        summary=f"{sample.service}: {sample.metric}{where} is {_shown(sample.value, sample.unit)}, expected {expected}",
        evidence=(event.id,),
        value=sample.value,
        expected=expected,
    )


def _ended(rule: ThresholdRule, event: Event[MetricSampled], subject: str) -> AnomalyCleared:
    sample = event.payload
    return AnomalyCleared(
        service=sample.service,
        system=sample.system,
        kind=rule.kind,
        subject=subject,
        severity=rule.severity,
        summary=f"over: {sample.service}: {sample.metric} is {_shown(sample.value, sample.unit)}",
        evidence=(event.id,),
    )


def _shown(value: float, unit: str) -> str:
    if unit == "By":
        for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
    return f"{value:.4g}" if unit == "1" else f"{value:.4g} {unit}"
