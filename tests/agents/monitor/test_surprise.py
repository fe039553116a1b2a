"""Metrics that behave as they never did."""

from __future__ import annotations

import math
from typing import Any

from agents.monitor.surprise import SurpriseConfig, SurpriseDetector
from tests.agents.world import event, process, restarted
from topology.agent import Agent
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.signals import MetricSampled


def sample(value: float, metric: str = "system.cpu.load_average.1m") -> MetricSampled:
    return MetricSampled(service="host", system="host", metric=metric, value=value, labels={"cpu": "all"})


def usual(number: int) -> float:
    return 1.0 + 0.2 * math.sin(number) + 0.05 * math.cos(7 * number)


def noticed(detector: Agent[Any, Any], values: list[float]) -> list[Any]:
    return [finding for n, value in enumerate(values) for finding in process(detector, event(sample(value), n))]


def test_what_never_was_before_is_a_remark_that_ends_when_things_are_as_usual() -> None:
    detector = SurpriseDetector()
    before = noticed(detector, [usual(n) for n in range(200)])
    odd = noticed(detector, [50.0, 51.0, 52.0, 53.0])
    after = noticed(detector, [usual(n) for n in range(20)])

    assert before == []
    assert [(type(f), f.kind, f.subject, f.severity) for f in odd] == [
        (AnomalyDetected, "metric.surprise", "system.cpu.load_average.1m{cpu=all}", "info")
    ]
    assert [type(f) for f in after] == [AnomalyCleared]


def test_one_outlier_a_flat_series_and_metrics_nobody_watches_are_not_surprising() -> None:
    values = [usual(n) for n in range(100)]

    assert noticed(SurpriseDetector(), [*values, 50.0, *values]) == []
    assert noticed(SurpriseDetector(), [4.0] * 300 + [4.1] * 9) == []
    detector = SurpriseDetector(SurpriseConfig(metrics=("nothing.*",)))
    assert noticed(detector, [*values, 50.0, 51.0, 52.0, 53.0]) == []
    assert len(detector.series) == 0


def test_what_goes_on_for_long_becomes_usual() -> None:
    detector = SurpriseDetector()
    noticed(detector, [usual(n) for n in range(100)])
    found = noticed(detector, [50.0 + usual(n) for n in range(300)])

    assert [type(f) for f in found] == [AnomalyDetected, AnomalyCleared]


def test_a_restart_in_the_middle_changes_nothing() -> None:
    values = [usual(n) for n in range(100)]
    straight, crashed = SurpriseDetector(), SurpriseDetector()
    noticed(straight, values)
    noticed(crashed, values)

    again = restarted(crashed)
    for happened in [event(sample(50.0 + n), n) for n in range(3)]:
        assert process(again, happened) == process(straight, happened)
    assert again.tables["series"].snapshot() == straight.series.snapshot()


def test_no_more_series_are_kept_than_allowed() -> None:
    detector = SurpriseDetector(SurpriseConfig(series_max=10))
    for number in range(50):
        process(detector, event(sample(1.0, f"system.metric.{number}")))

    assert len(detector.series) == 10
    assert len(detector._scorers) == 10
