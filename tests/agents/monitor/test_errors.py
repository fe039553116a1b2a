"""Errors in logs, as a rate."""

from __future__ import annotations

from typing import Any

from agents.monitor.errors import ErrorRateConfig, ErrorRateDetector
from tests.agents.world import event, process
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.operation import TickPassed
from topology.payloads.signals import LogLevel, LogWritten


def entry(message: str, level: LogLevel = "error") -> LogWritten:
    return LogWritten(service="ledger", system="ledger", message=message, level=level)


def noticed(detector: ErrorRateDetector, *timed: tuple[float, LogWritten]) -> list[Any]:
    return [finding for at, payload in timed for finding in process(detector, event(payload, at))]


def test_five_errors_in_ten_seconds_are_a_symptom_named_after_the_most_frequent_one() -> None:
    messages = [
        "store unreachable after 31 ms",
        "bad fee 7",
        "store unreachable after 4 ms",
        "store unreachable after 5 ms",
    ]
    detector = ErrorRateDetector()
    before = noticed(detector, *((n, entry(message)) for n, message in enumerate(messages)))
    (found,) = noticed(detector, (5, entry("bad fee 9", "critical")))

    assert before == []
    assert isinstance(found, AnomalyDetected)
    assert (found.kind, found.subject) == ("log.errors", "store unreachable after <num> ms")
    assert len(found.evidence) == 5
    assert found.value == 5


def test_a_symptom_is_not_repeated_while_it_lasts() -> None:
    assert len(noticed(ErrorRateDetector(), *((n / 5, entry("no")) for n in range(50)))) == 1


def test_errors_that_come_slowly_are_no_symptom() -> None:
    assert noticed(ErrorRateDetector(), *((n * 3.0, entry("no")) for n in range(20))) == []


def test_a_few_errors_among_many_entries_are_no_symptom() -> None:
    detector = ErrorRateDetector(ErrorRateConfig(ratio_min=0.5))
    fine = [(n / 20, entry("served", "info")) for n in range(20)]

    assert noticed(detector, *fine, *((1 + n / 20, entry("no")) for n in range(6))) == []


def test_the_symptom_ends_when_the_window_holds_no_error() -> None:
    detector = ErrorRateDetector()
    noticed(detector, *((n / 5, entry("no")) for n in range(10)))

    assert process(detector, event(TickPassed(), 8)) == []
    (over,) = process(detector, event(TickPassed(), 13))
    assert isinstance(over, AnomalyCleared)
    assert (over.kind, over.subject) == ("log.errors", "no")
    assert process(detector, event(TickPassed(), 14)) == []
    assert len(detector.bursts) == 0


def test_an_attacker_who_writes_ever_new_errors_does_not_make_the_row_grow() -> None:
    detector = ErrorRateDetector(ErrorRateConfig(errors_min=10_000))
    words = [(n / 100, entry("".join(chr(97 + int(digit)) for digit in str(n)))) for n in range(200)]
    noticed(detector, *words)

    burst = detector.bursts.get("ledger")
    assert burst is not None
    assert len(burst.templates) <= 20
