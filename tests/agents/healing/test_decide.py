"""What is tried, in which order, and when no more."""

from __future__ import annotations

from typing import Any

from agents.healing.decide import Decide, DecideConfig
from tests.agents.stories import INCIDENT, SYSTEMS, finished, outcome, request, resolved, symptom, updated
from tests.agents.world import event, process
from topology.event import Payload
from topology.payloads.diagnoses import Candidate, ProblemDiagnosed
from topology.payloads.healing import PlanProposed
from topology.spec import SystemSpec


def candidate(
    solution: str,
    *,
    successes: float = 0,
    trials: float = 0,
    cost: float = 0.1,
    risk: float = 0.0,
    proven: bool = False,
) -> Candidate:
    return Candidate(
        solution=solution,
        title=solution,
        request=request(solution),
        successes=successes,
        trials=trials,
        cost=cost,
        risk=risk,
        proven=proven,
    )


def diagnosis(*candidates: Candidate, system: str = "ledger", problem: str = "fp:v1:1") -> ProblemDiagnosed:
    return ProblemDiagnosed(
        incident=INCIDENT,
        system=system,
        service="ledger",
        problem=problem,
        title="ledger refuses connections",
        description="ledger refuses connections.",
        severity="high",
        confidence=0.8,
        candidates=candidates,
    )


CHEAP, DEAR, RISKY = candidate("cheap", cost=0.1), candidate("dear", cost=0.2), candidate("risky", cost=0.1, risk=0.3)


def decide(autonomy: str = "auto") -> Decide:
    system = SYSTEMS["ledger"].model_copy(update={"autonomy": autonomy})
    return Decide(DecideConfig(systems={"ledger": system}))


def after(agent: Decide, payload: Payload, seconds: float = 0) -> PlanProposed | None:
    plans = process(agent, event(payload, seconds))
    assert len(plans) <= 1
    return plans[0] if plans else None


def planned(agent: Decide, payload: Payload, seconds: float = 0) -> PlanProposed:
    plan = after(agent, payload, seconds)
    assert plan is not None
    return plan


def test_for_an_unknown_problem_what_is_cheap_and_harmless_is_tried_first() -> None:
    plan = planned(decide(), diagnosis(RISKY, DEAR, CHEAP))

    assert (plan.solution, plan.attempt, plan.recalled, plan.autonomy) == ("cheap", 1, False, "auto")
    assert plan.success_rate is None


def test_what_has_helped_before_comes_first_however_dear() -> None:
    proven = candidate("proven", successes=1, trials=1, cost=0.4, proven=True)
    plan = planned(decide(), diagnosis(CHEAP, proven))

    assert (plan.solution, plan.recalled, plan.success_rate, plan.experiences) == ("proven", True, 1.0, 1)
    assert plan.reason.startswith("known problem, solved 1 of 1 times by proven")


def test_what_has_mostly_failed_does_not_come_first_because_it_helped_once() -> None:
    lucky = candidate("lucky", successes=1, trials=9, proven=True)

    assert planned(decide(), diagnosis(CHEAP, lucky)).solution == "cheap"


def test_a_rejected_repair_is_followed_by_the_next_and_none_is_tried_twice() -> None:
    agent = decide()
    first = planned(agent, diagnosis(CHEAP, DEAR))
    second = planned(agent, outcome(first, "rejected"), 10)

    assert (second.solution, second.attempt) == ("dear", 2)
    assert after(agent, outcome(second, "rejected"), 20) is None


def test_a_rejected_repair_that_can_be_undone_is_undone_before_the_next() -> None:
    agent = decide()
    first = planned(agent, diagnosis(CHEAP, DEAR))
    undo = planned(agent, outcome(first, "rejected", undo=request("start")), 10)
    during = after(agent, updated(symptom("health.refused")), 11)
    second = planned(agent, finished(undo), 12)

    assert undo.request.operation == "start"
    assert undo.undo_of is not None
    assert (undo.solution, undo.attempt) == ("cheap", 1)
    assert during is None
    assert (second.solution, second.undo_of, second.attempt) == ("dear", None, 2)


def test_a_repair_a_guard_refused_is_followed_by_the_next() -> None:
    agent = decide()
    first = planned(agent, diagnosis(CHEAP, DEAR))

    assert planned(agent, finished(first, "refused"), 1).solution == "dear"


def test_there_is_never_a_second_plan_while_one_is_under_way() -> None:
    agent = decide()
    first = planned(agent, diagnosis(CHEAP, DEAR))

    assert after(agent, diagnosis(DEAR, problem="fp:v1:2"), 1) is None
    assert after(agent, updated(symptom("health.refused")), 2) is None
    assert after(agent, finished(first), 3) is None


def test_doing_nothing_is_worth_more_than_what_hardly_ever_helps() -> None:
    assert after(decide(), diagnosis(candidate("hopeless", successes=0, trials=20, cost=0.05))) is None


def test_a_cured_incident_is_left_alone_until_its_symptoms_come_back() -> None:
    agent = decide()
    first = planned(agent, diagnosis(CHEAP, DEAR))
    after(agent, updated(symptom("health.refused", over=5)), 5)

    assert after(agent, outcome(first, "verified"), 10) is None
    assert after(agent, updated(symptom("health.refused")), 4) is None  # older news, heard late
    again = planned(agent, updated(symptom("health.refused")), 11)
    assert (again.solution, again.attempt) == ("cheap", 2)


def test_an_incident_that_has_passed_by_itself_needs_no_plan() -> None:
    agent = decide()
    after(agent, updated(symptom("health.refused", over=1)), 1)

    assert after(agent, diagnosis(CHEAP), 2) is None


def test_a_diagnosis_that_comes_after_the_end_starts_nothing() -> None:
    agent = decide()
    after(agent, resolved(symptom("health.refused", over=1), seconds=6), 6)

    assert after(agent, diagnosis(CHEAP), 7) is None


def test_what_an_earlier_diagnosis_thought_of_is_still_tried_after_a_later_one() -> None:
    agent = decide()
    first = planned(agent, diagnosis(DEAR, CHEAP))
    after(agent, diagnosis(candidate("cheap"), candidate("new", cost=0.3), problem="fp:v1:2"), 1)
    second = planned(agent, outcome(first, "rejected"), 10)
    third = planned(agent, outcome(second, "rejected"), 20)

    assert (second.solution, second.problem) == ("dear", "fp:v1:2")
    assert third.solution == "new"


def test_autonomy_is_the_systems_and_suggest_where_none_is_declared() -> None:
    assert planned(decide("approve"), diagnosis(CHEAP)).autonomy == "approve"
    assert planned(Decide(), diagnosis(CHEAP)).autonomy == "suggest"
    assert after(decide("observe"), diagnosis(CHEAP)) is None
    assert SystemSpec().autonomy == "suggest"


def test_the_same_diagnosis_gives_the_same_plan() -> None:
    assert planned(decide(), diagnosis(DEAR, CHEAP)) == planned(decide(), diagnosis(DEAR, CHEAP))


def test_help_is_asked_for_when_nothing_is_left_to_try() -> None:
    agent = decide()
    problem = diagnosis(CHEAP)
    assert agent.request_help(problem) is None
    first: Any = planned(agent, problem)
    assert agent.request_help(problem) is None
    after(agent, outcome(first, "rejected"), 10)

    help_wanted = agent.request_help(problem)
    assert help_wanted is not None
    assert help_wanted.tried == ("cheap > ledger",)


def test_resolved_incidents_are_forgotten_after_a_while() -> None:
    agent = decide()
    for number in range(50):
        happened = resolved(symptom("a", over=1), seconds=number * 60)
        process(agent, event(happened.model_copy(update={"incident": event(happened).id}), number * 60))

    assert len(agent.cases) == 11
