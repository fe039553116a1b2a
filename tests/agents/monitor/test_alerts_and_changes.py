"""What other tools and people say."""

from __future__ import annotations

from agents.monitor.alerts import AlertWatcher
from agents.monitor.changes import ChangeWatcher
from tests.agents.world import event, process
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.signals import AlertFired, AlertResolved, ChangeApplied


def fired(severity: str = "warning") -> AlertFired:
    return AlertFired(service="shop", system="web", alert="HighErrorRate (5xx)", fingerprint="f1", severity=severity)


RESOLVED = AlertResolved(service="shop", system="web", alert="HighErrorRate (5xx)", fingerprint="f1")


def test_an_alert_that_is_repeated_is_one_finding_until_it_is_resolved() -> None:
    watcher = AlertWatcher()
    (found,) = [f for n in range(5) for f in process(watcher, event(fired(), n))]
    (over,) = [f for n in range(2) for f in process(watcher, event(RESOLVED, 5 + n))]

    assert isinstance(found, AnomalyDetected)
    assert (found.kind, found.subject) == ("alert.higherrorrate-5xx", "f1")
    assert isinstance(over, AnomalyCleared)
    assert over.symptom == found.symptom
    assert len(process(watcher, event(fired(), 9))) == 1


def test_an_alert_that_becomes_more_severe_is_told_again() -> None:
    watcher = AlertWatcher()
    severities = [f.severity for word in ("warning", "critical", "high") for f in process(watcher, event(fired(word)))]

    assert severities == ["warning", "critical"]


def test_a_change_passes_as_it_is() -> None:
    change = ChangeApplied(service="shop", system="web", change="v7")

    assert process(ChangeWatcher(), event(change)) == [change]
