"""Notice that a service logs errors, more than it should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tables.aggregates import Count
from tables.fingerprint import template_of
from tables.keyed import Keyed
from tables.table import Table
from tables.windows import Sliding, seconds
from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.operation import TickPassed
from topology.payloads.signals import LogWritten

Noticed = AnomalyDetected | AnomalyCleared

_KIND = "log.errors"
_WINDOW = Sliding(seconds(10), resolution=seconds(1))
_TEMPLATES_MAX = 20
_EVIDENCE_MAX = 5
_SUBJECT_CHARACTERS_MAX = 200


class ErrorRateConfig(AgentConfig):
    """When errors are a symptom: both limits hold for the last 10 seconds.

    Attributes:
        errors_min: fewer entries of level ``error`` or ``critical`` are none.
        ratio_min: and they are at least this share of all entries.
    """

    errors_min: int = Field(default=5, ge=1)
    ratio_min: float = Field(default=0.1, ge=0.0, le=1.0)


class Burst(BaseModel):
    """The errors of one service since it last logged none.

    Attributes:
        templates: how often each kind of message came, the first one in front; the rarest are dropped.
        subject: the template the open symptom is named after; empty while there is no symptom.
    """

    model_config = ConfigDict(frozen=True)

    system: str
    templates: Mapping[str, int] = {}
    evidence: tuple[UUID, ...] = ()
    subject: str = ""


class ErrorRateDetector(Agent[LogWritten | TickPassed, Noticed]):
    """Finds ``log.errors``; its subject is the template of the most frequent error when it was found.

    The symptom is over when the window holds no error any more.

    Remembers: entries and errors per service in a sliding window of 10 seconds, and a row per service with errors.
    """

    Config = ErrorRateConfig

    entries = Table("entries", key="service", window=_WINDOW, value=Count)
    errors = Table("errors", key="service", window=_WINDOW, value=Count)
    bursts = Keyed("bursts", value=Burst)

    def process(self, event: Event[LogWritten | TickPassed], world: World) -> Iterable[Noticed]:
        """A log entry, or the passing of time, in; what has begun or ended out."""
        del world
        if isinstance(event.payload, TickPassed):
            yield from self._end_of_bursts(event.at_us)
            return
        entry = event.payload
        entries = self.entries.add(event)
        if entry.level not in {"error", "critical"}:
            return
        errors = self.errors.add(event)
        burst = _with_error(self.bursts.get(entry.service) or Burst(system=entry.system), entry, event.id)
        config: ErrorRateConfig = self.config
        if not burst.subject and errors >= config.errors_min and errors >= config.ratio_min * entries:
            burst = burst.model_copy(update={"subject": _most_frequent(burst)})
            yield AnomalyDetected(
                service=entry.service,
                system=entry.system,
                kind=_KIND,
                subject=burst.subject,
                severity="warning",
                summary=f"{entry.service} logs errors ({errors} in 10 s): {burst.subject}",
                evidence=burst.evidence,
                value=float(errors),
                expected=f"fewer than {config.errors_min} in 10 s",
            )
        self.bursts.put(entry.service, burst)

    def _end_of_bursts(self, now_us: int) -> Iterable[Noticed]:
        for service, burst in self.bursts.items():
            if self.errors.value(service, now_us):
                continue
            self.bursts.delete(service)
            if burst.subject:
                yield AnomalyCleared(
                    service=service,
                    system=burst.system,
                    kind=_KIND,
                    subject=burst.subject,
                    severity="warning",
                    summary=f"over: {service} has logged no error for 10 s",
                )


def _with_error(burst: Burst, entry: LogWritten, seen: UUID) -> Burst:
    template = template_of(entry.message)[:_SUBJECT_CHARACTERS_MAX] or entry.level
    templates = {**burst.templates, template: burst.templates.get(template, 0) + 1}
    if len(templates) > _TEMPLATES_MAX:
        del templates[min(templates, key=lambda known: templates[known])]
    after = {"system": entry.system, "templates": templates, "evidence": (*burst.evidence, seen)[-_EVIDENCE_MAX:]}
    return burst.model_copy(update=after)


def _most_frequent(burst: Burst) -> str:
    return max(burst.templates, key=lambda template: burst.templates[template])
