"""Notice that a metric behaves as it has not behaved before; nobody had to set a limit."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from tables.keyed import Keyed
from tables.surprise import Surprise
from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.payloads.findings import AnomalyCleared, AnomalyDetected, Severity
from topology.payloads.signals import MetricSampled

Noticed = AnomalyDetected | AnomalyCleared

_KIND = "metric.surprise"


class SurpriseConfig(AgentConfig):
    """Which metrics are watched, and how surprising is too surprising.

    Attributes:
        metrics: glob patterns of the metrics watched.
        begins_at, ends_below: scores, as -log10 of the probability; 6 is one value in a million.
        for_samples: so many samples in a row begin or end it.
        change_min: a value closer than this share to what is usual is no news, however steady the series was.
        accept_after: after so many odd samples the new ways are learned, and become usual.
        severity: ``info`` tells it with an incident and never opens one; what is unusual is seldom wrong.
        history, warm_up: values remembered per series, and how many must be known before one is judged.
        series_max: no more series than this are watched in one partition; the least recently seen is forgotten.
    """

    metrics: tuple[str, ...] = ("system.*", "process.memory.*", "process.cpu.*")
    begins_at: float = Field(default=6.0, gt=0.0)
    ends_below: float = Field(default=3.0, gt=0.0)
    for_samples: int = Field(default=3, ge=1)
    change_min: float = Field(default=0.2, ge=0.0)
    accept_after: int = Field(default=60, ge=1)
    severity: Severity = "info"
    history: int = Field(default=300, ge=16)
    warm_up: int = Field(default=60, ge=16)
    series_max: int = Field(default=2_000, ge=1)


class Series(BaseModel):
    """What is remembered of one series: its past, and the samples in a row that speak against the present verdict.

    ``odd_for`` counts the samples since it became odd; 0 while it is not.
    """

    model_config = ConfigDict(frozen=True)

    history: str = ""
    odd_for: int = 0
    against: int = 0


class SurpriseDetector(Agent[MetricSampled, Noticed]):
    """Finds ``metric.surprise``; its subject is the metric with its labels.

    Odd values are not learned at first, or the second of a row would be less surprising than the first.

    Remembers: the last values of each series watched, about 3 KB.
    """

    Config = SurpriseConfig

    series = Keyed("series", value=Series)

    def __init__(self, config: AgentConfig | None = None) -> None:
        super().__init__(config)
        # The rows again, ready to score with: reading 300 values back for every sample would cost more than scoring.
        self._scorers: dict[str, Surprise] = {}

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[Noticed]:
        """One sample in; what has begun or ended out."""
        del world
        config: SurpriseConfig = self.config
        sample = event.payload
        if not any(fnmatchcase(sample.metric, pattern) for pattern in config.metrics):
            return
        subject = _subject_of(sample)
        key = f"{sample.service}|{subject}"
        known = self.series.get(key) or Series()
        scorer = self._scorer(key, known)
        usual = scorer.usual
        score = scorer.score(sample.value) if _is_news(sample.value, usual, config.change_min) else 0.0
        was_odd = known.odd_for > 0
        speaks_against = score < config.ends_below if was_odd else score >= config.begins_at
        against = known.against + 1 if speaks_against else 0
        turned = against >= config.for_samples
        is_odd = was_odd != turned
        odd_for = known.odd_for + 1 if is_odd else 0
        if score < config.begins_at or odd_for > config.accept_after:
            scorer.update(sample.value)
        history = scorer.snapshot()["history"]
        self._remember(key, Series(history=history, odd_for=odd_for, against=0 if turned else against))
        if turned and is_odd:
            yield _begun(event, subject, score, usual, config.severity)
        elif turned:
            yield _ended(event, subject, config.severity)

    def _scorer(self, key: str, known: Series) -> Surprise:
        scorer = self._scorers.get(key)
        if scorer is None:
            scorer = self._scorers[key] = Surprise(history=self.config.history, warm_up=self.config.warm_up)
            if known.history:
                scorer.restore({"history": known.history})
        return scorer

    def _remember(self, key: str, series: Series) -> None:
        self.series.put(key, series)
        if len(self.series) > self.config.series_max:
            oldest, _ = self.series.items()[0]
            self.series.delete(oldest)
            self._scorers.pop(oldest, None)


def _begun(
    event: Event[MetricSampled], subject: str, score: float, usual: tuple[float, float] | None, severity: Severity
) -> AnomalyDetected:
    sample = event.payload
    expected = f"{usual[0]:.4g} to {usual[1]:.4g}" if usual else ""
    return AnomalyDetected(
        service=sample.service,
        system=sample.system,
        kind=_KIND,
        subject=subject,
        severity=severity,
        summary=f"{sample.metric} of {sample.service} is {sample.value:.4g}, usually {expected}",
        evidence=(event.id,),
        value=sample.value,
        expected=expected,
        score=score,
    )


def _ended(event: Event[MetricSampled], subject: str, severity: Severity) -> AnomalyCleared:
    sample = event.payload
    return AnomalyCleared(
        service=sample.service,
        system=sample.system,
        kind=_KIND,
        subject=subject,
        severity=severity,
        summary=f"over: {sample.metric} of {sample.service} is as usual",
        evidence=(event.id,),
    )


def _is_news(value: float, usual: tuple[float, float] | None, change_min: float) -> bool:
    if usual is None:
        return False
    low, high = usual
    distance = max(low - value, value - high)
    return distance > change_min * max(abs(low), abs(high))


def _subject_of(sample: MetricSampled) -> str:
    labels = ",".join(f"{name}={sample.labels[name]}" for name in sorted(sample.labels) if name != "pid")
    return f"{sample.metric}{{{labels}}}" if labels else sample.metric
