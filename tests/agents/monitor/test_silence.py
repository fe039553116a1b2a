"""Services that are heard no more."""

from __future__ import annotations

from typing import Any

from agents.monitor.silence import SilenceDetector
from tests.agents.world import event, process
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.operation import TickPassed
from topology.payloads.signals import HeartbeatSeen

BEAT = HeartbeatSeen(service="ledger", system="ledger", healthy=False, answer="refused")


def ticks(detector: SilenceDetector, begin: int, end: int) -> list[Any]:
    return [finding for n in range(begin, end) for finding in process(detector, event(TickPassed(), n))]


def test_a_service_that_was_heard_and_falls_silent_is_missing_after_five_seconds() -> None:
    detector = SilenceDetector()
    process(detector, event(BEAT, 0.5))

    assert ticks(detector, 1, 6) == []
    (found,) = ticks(detector, 6, 20)
    assert isinstance(found, AnomalyDetected)
    assert (found.kind, found.system) == ("heartbeat.missing", "ledger")


def test_the_symptom_ends_with_the_next_heartbeat() -> None:
    detector = SilenceDetector()
    process(detector, event(BEAT, 0.5))
    ticks(detector, 1, 10)
    (over,) = process(detector, event(BEAT, 10))

    assert isinstance(over, AnomalyCleared)
    assert ticks(detector, 11, 15) == []


def test_who_was_never_heard_is_not_missed() -> None:
    assert ticks(SilenceDetector(), 0, 60) == []


def test_while_nobody_listened_nobody_was_silent_and_who_is_not_heard_again_is_not_missed() -> None:
    detector = SilenceDetector()
    process(detector, event(BEAT, 0.5))
    ticks(detector, 1, 3)

    assert ticks(detector, 500, 520) == []
    process(detector, event(BEAT, 520))
    assert len(ticks(detector, 521, 540)) == 1


def test_a_service_silent_for_an_hour_is_forgotten() -> None:
    detector = SilenceDetector()
    process(detector, event(BEAT, 0.5))
    found = ticks(detector, 1, 3700)

    assert [type(finding) for finding in found] == [AnomalyDetected, AnomalyCleared]
    assert len(detector.voices) == 0
