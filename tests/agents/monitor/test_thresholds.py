"""Limits an operator has set."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agents.monitor.thresholds import ThresholdConfig, ThresholdDetector, ThresholdRule
from tests.agents.world import event, process
from topology.payloads.signals import MetricSampled

MEMORY = ThresholdRule(kind="memory.high", metric="process.memory.*", service="ledger*", above=150e6, severity="high")


def sample(value: float, metric: str = "process.memory.usage", **labels: str) -> MetricSampled:
    return MetricSampled(service="ledger", system="ledger", metric=metric, value=value, unit="By", labels=labels)


def noticed(detector: ThresholdDetector, *samples: MetricSampled) -> list[tuple[str, str, str]]:
    return [
        (type(finding).__name__, finding.kind, finding.subject)
        for number, payload in enumerate(samples)
        for finding in process(detector, event(payload, number))
    ]


def test_a_symptom_begins_and_ends_after_so_many_samples_in_a_row() -> None:
    detector = ThresholdDetector(ThresholdConfig(rules=(MEMORY,)))
    values = (100e6, 160e6, 140e6, 160e6, 170e6, 180e6, 140e6, 160e6, 140e6, 130e6, 120e6)

    assert noticed(detector, *map(sample, values)) == [
        ("AnomalyDetected", "memory.high", ""),
        ("AnomalyCleared", "memory.high", ""),
    ]
    assert len(detector.streaks) == 0


def test_the_finding_speaks_in_units_people_read() -> None:
    detector = ThresholdDetector(ThresholdConfig(rules=(MEMORY,)))
    process(detector, event(sample(190e6)))
    (found,) = process(detector, event(sample(190e6)))

    assert found.summary == "ledger: process.memory.usage is 190 MB, expected at most 150 MB"
    assert (found.value, found.severity, found.expected) == (190e6, "high", "at most 150 MB")


def test_metrics_and_services_no_rule_is_for_are_left_alone() -> None:
    detector = ThresholdDetector(ThresholdConfig(rules=(MEMORY,)))
    other = MetricSampled(service="shop", metric="process.memory.usage", value=9e9)

    assert noticed(detector, *[sample(9e9, metric="system.memory")] * 3, *[other] * 3) == []


def test_series_told_apart_by_a_label_are_judged_each_for_itself() -> None:
    rule = ThresholdRule(kind="disk.low", metric="disk.free", below=5, by=("mountpoint",))
    detector = ThresholdDetector(ThresholdConfig(rules=(rule,)))
    full, empty = sample(1, "disk.free", mountpoint="/"), sample(90, "disk.free", mountpoint="/home")

    assert noticed(detector, full, empty, full, empty) == [("AnomalyDetected", "disk.low", "mountpoint=/")]


def test_a_rule_without_a_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="neither above nor below"):
        ThresholdRule(kind="memory.high", metric="process.memory.usage")
