"""What probes say becomes symptoms that begin and end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.monitor.health import HealthConfig, HealthDetector
from tests.agents.world import event, process, restarted
from topology.payloads.findings import AnomalyCleared, AnomalyDetected
from topology.payloads.operation import TickPassed
from topology.payloads.signals import HeartbeatSeen


def beat(answer: str = "ok", latency_ms: float = 9.0) -> HeartbeatSeen:
    return HeartbeatSeen(
        service="ledger", system="ledger", healthy=answer == "ok", answer=answer, latency_ms=latency_ms
    )


def noticed(detector: HealthDetector, *answers: str) -> list[tuple[str, str]]:
    """What each answer leads to, as begin or end and kind; probes are half a second apart."""
    return [
        (type(finding).__name__, finding.kind)
        for number, answer in enumerate(answers)
        for finding in process(detector, event(beat(answer), number / 2))
    ]


def test_one_failed_probe_is_nothing_and_two_in_a_row_are_a_symptom() -> None:
    assert noticed(HealthDetector(), "refused", "ok", "refused", "ok") == []
    assert noticed(HealthDetector(), "refused", "refused", "refused") == [("AnomalyDetected", "health.refused")]


def test_a_symptom_clears_after_two_good_answers_in_a_row() -> None:
    found = noticed(HealthDetector(), "refused", "refused", "ok", "refused", "ok", "ok")

    assert found == [("AnomalyDetected", "health.refused"), ("AnomalyCleared", "health.refused")]


def test_failures_of_different_kinds_count_together_and_the_last_names_the_symptom() -> None:
    assert noticed(HealthDetector(), "error", "refused") == [("AnomalyDetected", "health.refused")]


def test_another_kind_takes_over_only_when_it_persists_and_without_a_healthy_moment_in_between() -> None:
    detector = HealthDetector()

    assert noticed(detector, "http_500", "http_500", "refused", "http_500") == [("AnomalyDetected", "health.http_500")]
    assert noticed(detector, "refused", "refused") == [
        ("AnomalyDetected", "health.refused"),
        ("AnomalyCleared", "health.http_500"),
    ]


def test_the_finding_says_what_it_rests_on() -> None:
    detector = HealthDetector()
    first, second = event(beat("http_503")), event(beat("http_503"), 0.5)
    process(detector, first)
    (found,) = process(detector, second)

    assert found.evidence == (first.id, second.id)
    assert found.summary == "ledger answers 503 (2 probes in a row)"
    assert (found.service, found.system, found.severity) == ("ledger", "ledger", "high")


def test_four_slow_answers_in_a_row_are_high_latency_and_four_fast_ones_its_end() -> None:
    detector = HealthDetector()
    slow = [finding for n in range(5) for finding in process(detector, event(beat(latency_ms=380), n))]
    fast = [finding for n in range(5) for finding in process(detector, event(beat(latency_ms=9), 5 + n))]

    assert [(type(f), f.kind) for f in slow] == [(AnomalyDetected, "latency.high")]
    assert slow[0].value == 380
    assert [(type(f), f.kind) for f in fast] == [(AnomalyCleared, "latency.high")]


def test_the_latency_limit_can_be_set_for_one_service() -> None:
    detector = HealthDetector(HealthConfig(latency_ms_max_of={"ledger": 500}))

    assert [f for n in range(9) for f in process(detector, event(beat(latency_ms=380), n))] == []


def test_the_symptoms_of_a_service_that_is_not_probed_any_more_are_dropped() -> None:
    detector = HealthDetector()
    noticed(detector, "refused", "refused")

    assert process(detector, event(TickPassed(), 500)) == []
    (dropped,) = process(detector, event(TickPassed(), 700))
    assert (type(dropped), dropped.kind) == (AnomalyCleared, "health.refused")
    assert len(detector.pulses) == 0


@given(st.lists(st.sampled_from(["ok", "refused", "timeout", "http_500", "http_503"]), max_size=40), st.integers(0, 40))
def test_begin_and_end_alternate_with_one_health_symptom_at_most_also_over_a_restart(
    answers: list[str], crash_at: int
) -> None:
    straight, crashing = HealthDetector(), HealthDetector()
    open_kinds: set[str] = set()
    for number, answer in enumerate(answers):
        if number == crash_at:
            crashing = restarted(crashing)  # type: ignore[assignment]
        happened = event(beat(answer), number / 2)
        found = process(straight, happened)
        assert process(crashing, happened) == found
        for finding in found:
            if isinstance(finding, AnomalyDetected):
                assert finding.kind not in open_kinds
                open_kinds.add(finding.kind)
            else:
                open_kinds.remove(finding.kind)
        assert len(open_kinds) <= 1
    assert straight.pulses.snapshot() == crashing.pulses.snapshot()
