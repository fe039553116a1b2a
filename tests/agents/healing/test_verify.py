"""Whether a repair helped."""

from __future__ import annotations

from typing import Any

from agents.healing.verify import Verify
from tests.agents.stories import finished, opened, plan, request, resolved, symptom, updated
from tests.agents.world import event, process
from topology.event import Payload
from topology.ids import derived_id
from topology.payloads.operation import TickPassed

ILL = opened(symptom("health.refused"))
STILL_ILL = updated(symptom("health.refused"))
WELL = updated(symptom("health.refused", over=3))


def after(agent: Verify, *timed: tuple[float, Payload]) -> list[Any]:
    return [payload for seconds, happened in timed for payload in process(agent, event(happened, seconds))]


def ticks(agent: Verify, begin: int, end: int) -> list[tuple[int, Any]]:
    return [(n, payload) for n in range(begin, end) for payload in process(agent, event(TickPassed(), n))]


def watching(at: float = 2) -> Verify:
    agent = Verify()
    assert after(agent, (0, ILL), (at, finished(plan()))) == []
    return agent


def test_symptoms_that_go_and_stay_away_verify_a_repair() -> None:
    agent = watching(at=2)
    after(agent, (3, WELL))
    ((seconds, outcome),) = ticks(agent, 3, 30)

    assert seconds == 7
    assert (outcome.verdict, outcome.healthy_after_s, outcome.held_for_s) == ("verified", 1.0, 4.0)
    assert len(agent.watches) == 0


def test_symptoms_that_stay_reject_it_with_what_takes_it_back() -> None:
    agent = Verify()
    after(agent, (0, ILL), (2, finished(plan(), undo=request("start"))))
    ((seconds, outcome),) = ticks(agent, 3, 30)

    assert seconds == 11
    assert (outcome.verdict, outcome.healthy_after_s, outcome.undo) == ("rejected", None, request("start"))


def test_symptoms_that_come_back_within_the_hold_do_not_count_as_gone() -> None:
    agent = watching()
    after(agent, (3, WELL), (5, STILL_ILL))

    assert [(n, o.verdict) for n, o in ticks(agent, 5, 30)] == [(11, "rejected")]


def test_a_recovery_within_the_window_may_hold_beyond_it() -> None:
    agent = watching()
    ticks(agent, 3, 10)
    after(agent, (10, WELL))

    assert [(n, o.verdict) for n, o in ticks(agent, 10, 30)] == [(14, "verified")]


def test_trailing_log_errors_do_not_reject_a_repair() -> None:
    agent = watching()
    after(agent, (3, updated(symptom("health.refused", over=3), symptom("log.errors"))))

    assert [o.verdict for _, o in ticks(agent, 3, 30)] == ["verified"]


def test_an_action_that_failed_is_rejected_at_once() -> None:
    agent = Verify()
    (outcome,) = after(agent, (0, ILL), (2, finished(plan(), "failed")))

    assert outcome.verdict == "rejected"
    assert ticks(agent, 3, 30) == []


def test_what_was_refused_and_what_takes_back_has_no_outcome() -> None:
    agent = Verify()
    undo = plan(undo_of=derived_id("action", 1))

    assert (
        after(agent, (0, ILL), (2, finished(plan(), "refused")), (2, finished(undo)), (2, finished(undo, "failed")))
        == []
    )
    assert ticks(agent, 3, 30) == []


def test_an_incident_that_is_over_before_the_action_ends_still_gives_one_outcome() -> None:
    agent = Verify()
    after(
        agent, (0, ILL), (1, WELL), (6, resolved(symptom("health.refused", over=1), seconds=6)), (7, finished(plan()))
    )

    assert [(n, o.verdict, o.healthy_after_s) for n, o in ticks(agent, 8, 30)] == [(11, "verified", 0.0)]


def test_time_that_passed_while_the_executor_worked_does_not_use_up_the_window() -> None:
    agent = Verify()
    after(agent, (0, ILL))
    ticks(agent, 1, 20)
    after(agent, (2, finished(plan())))  # it carries the time of its cause

    assert [n for n, _ in ticks(agent, 20, 40)] == [28]


def test_after_a_stop_of_the_pipeline_verification_begins_anew() -> None:
    agent = watching()
    ticks(agent, 3, 5)
    assert ticks(agent, 600, 603) == []
    after(agent, (603, updated(symptom("health.refused", over=603))))

    assert [(n, o.verdict) for n, o in ticks(agent, 603, 630)] == [(607, "verified")]


def test_incidents_that_are_over_are_forgotten_after_a_while() -> None:
    agent = Verify()
    after(agent, (0, ILL), (6, resolved(symptom("health.refused", over=1), seconds=6)))
    ticks(agent, 600, 610)

    assert len(agent.conditions) == 0
