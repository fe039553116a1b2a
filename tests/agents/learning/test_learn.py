"""What outcomes teach."""

from __future__ import annotations

from typing import Any

from agents.learning.learn import Learn, LearnConfig
from tests.agents.stories import outcome, plan
from tests.agents.world import event, process
from topology.ids import derived_id
from topology.payloads.healing import OutcomeVerified
from topology.payloads.lessons import ExperienceRecorded, SolutionRevised


def taught(agent: Learn, *outcomes: OutcomeVerified) -> list[Any]:
    return [lesson for happened in outcomes for lesson in process(agent, event(happened))]


def test_each_outcome_is_an_experience_with_an_id_derived_from_its_action() -> None:
    helped, did_not = outcome(plan(1), "verified"), outcome(plan(2), "rejected")
    experiences = [
        lesson
        for lesson in taught(Learn(LearnConfig(environment="test")), helped, did_not)
        if isinstance(lesson, ExperienceRecorded)
    ]

    assert [(e.succeeded, e.recovery_s) for e in experiences] == [(True, 1.5), (False, None)]
    assert experiences[0].experience == derived_id("experience", helped.action)
    assert (experiences[0].target, experiences[0].environment) == ("ledger", "test")


def test_a_solution_is_revised_only_when_its_standing_changes() -> None:
    verdicts = ("verified", "verified", "rejected", "rejected", "rejected", "rejected")
    agent = Learn()
    revised = [
        (number, lesson.successes, lesson.trials, lesson.advice)
        for number, verdict in enumerate(verdicts, start=1)
        for lesson in taught(agent, outcome(plan(number), verdict))  # type: ignore[arg-type]
        if isinstance(lesson, SolutionRevised)
    ]

    assert revised == [
        (1, 1, 1, "restart on ledger helps: try it first"),
        (4, 2, 4, "restart on ledger helps sometimes: look for something better"),
        (6, 2, 6, "restart on ledger does not help: try something else"),
    ]
