"""Findings become incidents: one per system at a time."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agents.monitor.correlate import Correlate, CorrelateConfig
from tests.agents.stories import SYSTEMS, cleared, detected
from tests.agents.world import at, event, process, restarted
from topology.event import Payload
from topology.ids import derived_id
from topology.payloads.findings import AnomalyDetected, PatternMatched
from topology.payloads.incidents import IncidentOpened, IncidentResolved, IncidentUpdated
from topology.payloads.operation import TickPassed
from topology.payloads.signals import ChangeApplied

CHANGE = ChangeApplied(service="ledger", system="ledger", change="v2", kind="configuration", reversible=True)


def correlate() -> Correlate:
    return Correlate(CorrelateConfig(systems=SYSTEMS))


def told(agent: Correlate, *timed: tuple[float, Payload]) -> list[Any]:
    return [payload for seconds, found in timed for payload in process(agent, event(found, seconds))]


def test_the_first_finding_opens_an_incident_whose_id_is_derived_from_it() -> None:
    happened = event(detected("health.refused", severity="critical"), 3)
    (opened,) = process(correlate(), happened)

    assert isinstance(opened, IncidentOpened)
    assert opened.incident == derived_id("incident", "ledger", happened.id)
    assert (opened.title, opened.severity, opened.opened_at) == ("ledger has health.refused", "critical", at(3))


def test_what_is_found_in_the_same_system_belongs_to_the_incident_with_the_reason_why() -> None:
    opened, updated = told(
        correlate(), (0, detected("health.http_503")), (0.5, detected("health.refused", "ledger-store"))
    )

    assert isinstance(updated, IncidentUpdated)
    assert updated.incident == opened.incident
    assert [s.service for s in updated.symptoms] == ["ledger", "ledger-store"]
    assert opened.why == "all symptoms are of ledger"
    assert updated.why == "ledger depends on ledger-store"


def test_another_system_has_an_incident_of_its_own() -> None:
    first, second = told(correlate(), (0, detected("a")), (1, detected("a", "shop", system="shop")))

    assert (first.system, second.system) == ("ledger", "shop")
    assert first.incident != second.incident


def test_every_symptom_that_comes_goes_and_comes_back_is_one_update_and_a_repetition_is_none() -> None:
    agent = correlate()
    said = told(
        agent,
        (0, detected("a")),
        (1, detected("a")),
        (2, detected("b")),
        (3, cleared("a")),
        (4, cleared("a")),
        (5, cleared("never seen")),
        (6, detected("a")),
    )

    assert [[s.kind for s in incident.open_symptoms] for incident in said] == [["a"], ["a", "b"], ["b"], ["a", "b"]]


def test_an_incident_is_over_when_its_symptoms_have_been_gone_for_the_quiet_time() -> None:
    agent = correlate()
    told(agent, (0, detected("a")), (2, cleared("a")))

    assert told(agent, *((n, TickPassed()) for n in range(3, 7))) == []
    (resolved,) = told(agent, (7, TickPassed()))
    assert isinstance(resolved, IncidentResolved)
    assert resolved.resolved_at == at(7)
    assert told(agent, (8, TickPassed())) == []


def test_a_symptom_after_the_end_opens_another_incident() -> None:
    agent = correlate()
    (first,) = told(agent, (0, detected("a")))
    told(agent, (2, cleared("a")), (8, TickPassed()))
    (second,) = told(agent, (9, detected("a")))

    assert isinstance(second, IncidentOpened)
    assert second.incident != first.incident


def test_log_errors_that_trail_do_not_hold_an_incident_open() -> None:
    agent = correlate()
    told(agent, (0, detected("health.refused")), (1, detected("log.errors")), (2, cleared("health.refused")))

    assert [type(p) for p in told(agent, (7, TickPassed()))] == [IncidentResolved]


def test_remarks_open_nothing_but_are_told_with_an_incident_and_do_not_hold_it_open() -> None:
    agent = correlate()
    assert told(agent, (0, detected("metric.surprise", severity="info"))) == []
    (opened,) = told(agent, (1, detected("a")))
    told(agent, (2, cleared("a")))

    assert [s.kind for s in opened.symptoms] == ["metric.surprise", "a"]
    assert [type(p) for p in told(agent, (7, TickPassed()))] == [IncidentResolved]


def test_a_remark_that_becomes_serious_opens_an_incident_however_old_it_is() -> None:
    agent = correlate()
    told(agent, (0, detected("metric.surprise", severity="info")))
    (opened,) = told(agent, (3000, detected("metric.surprise", severity="high")))

    assert [s.severity for s in opened.symptoms] == ["high"]


def test_changes_of_the_last_minutes_are_told_and_late_ones_are_added() -> None:
    agent = correlate()
    said = told(agent, (0, CHANGE), (700, CHANGE), (710, detected("a")), (711, CHANGE))

    assert [len(incident.changes) for incident in said] == [1, 2]
    assert said[0].changes[0].at == at(700)


def test_changes_a_system_was_healthy_after_do_not_explain_its_next_incident() -> None:
    agent = correlate()
    told(agent, (0, CHANGE), (1, detected("a")), (2, cleared("a")), (8, TickPassed()))
    (second,) = told(agent, (9, detected("a")))

    assert second.changes == ()


def test_a_change_at_the_end_of_an_incident_is_told_with_the_next_one() -> None:
    short = [(0.0, detected("silence")), (2.0, cleared("silence"))]
    said = told(correlate(), *short, (4, CHANGE), (7, TickPassed()), (9, detected("b")))
    assert isinstance(said[-2], IncidentResolved)
    assert said[-1].incident != said[0].incident
    assert [change.at for change in said[-1].changes] == [at(4)]


def test_old_context_is_forgotten() -> None:
    agent = correlate()
    told(agent, (0, CHANGE), (1, detected("metric.surprise", severity="info")), (700, TickPassed()))

    assert len(agent.stories) == 0


def test_a_pattern_that_matched_is_taken_to_be_over_after_a_minute() -> None:
    agent = correlate()
    told(agent, (0, PatternMatched(service="ledger", system="ledger", kind="pattern.storm", severity="high")))

    assert told(agent, (50, TickPassed())) == []
    (updated,) = told(agent, (60, TickPassed()))
    assert updated.open_symptoms == ()
    (resolved,) = told(agent, (66, TickPassed()))
    assert isinstance(resolved, IncidentResolved)


findings = st.one_of(
    st.builds(detected, st.sampled_from("abc"), severity=st.sampled_from(["info", "warning", "critical"])),
    st.builds(cleared, st.sampled_from("abc")),
    st.just(CHANGE),
    st.just(TickPassed()),
)


@given(st.lists(st.tuples(st.integers(0, 6), findings), max_size=40))
def test_incidents_of_a_system_never_overlap_and_a_restart_changes_nothing(steps: list[tuple[int, Payload]]) -> None:
    straight, crashing = correlate(), correlate()
    seconds = 0
    current = None
    for pause, payload in steps:
        seconds += pause
        happened = event(payload, seconds)
        said = process(straight, happened)
        crashing = restarted(crashing)  # type: ignore[assignment]
        assert process(crashing, happened) == said
        for incident in said:
            if isinstance(incident, IncidentOpened):
                assert current is None
                assert isinstance(payload, AnomalyDetected)
                current = incident.incident
            assert incident.incident == current
            if isinstance(incident, IncidentResolved):
                assert incident.pressing_symptoms == ()
                current = None
