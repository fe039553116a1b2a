"""What may be done, and what is refused."""

from __future__ import annotations

from typing import Any

from agents.healing.remediate import Remediate, RemediateConfig
from tests.agents.stories import plan
from tests.agents.world import event, process
from topology.event import Payload
from topology.ids import derived_id
from topology.payloads.healing import ActionFinished, ActionStarted, ApprovalGiven, PlanProposed


def after(agent: Remediate, payload: Payload, seconds: float = 0) -> Any:
    """The one thing said, or None."""
    said = process(agent, event(payload, seconds))
    assert len(said) <= 1
    return said[0] if said else None


def approval(of: PlanProposed, *, approved: bool = True, digest: str = "") -> ApprovalGiven:
    digest = digest or of.request.digest
    return ApprovalGiven(plan=of.plan, system=of.system, digest=digest, approved=approved, by="ada", reason="")


def test_a_plan_that_may_run_by_itself_is_started_with_an_id_derived_from_it() -> None:
    started = after(Remediate(), plan())

    assert isinstance(started, ActionStarted)
    assert started.action == derived_id("action", plan().plan)
    assert started.digest == plan().request.digest


def test_a_plan_that_is_a_suggestion_waits_for_an_approval() -> None:
    agent = Remediate()
    suggestion = plan(autonomy="suggest")

    assert after(agent, suggestion) is None
    assert isinstance(after(agent, approval(suggestion), 60), ActionStarted)
    assert after(agent, approval(suggestion), 61) is None


def test_an_approval_of_another_request_a_denial_and_one_that_is_late_refuse_the_plan() -> None:
    suggestion = plan(autonomy="approve")
    for given, seconds, why in (
        (approval(suggestion, digest="0" * 64), 1, "approval: ada approved another request"),
        (approval(suggestion, approved=False), 1, "approval: denied by ada"),
        (approval(suggestion), 3600, "approval: it came after the plan had expired"),
    ):
        agent = Remediate()
        after(agent, suggestion)
        refused = after(agent, given, seconds)
        assert isinstance(refused, ActionFinished)
        assert refused.status == "refused"
        assert refused.detail.startswith(why)


def test_an_approval_without_a_plan_that_waits_is_nothing() -> None:
    assert after(Remediate(), approval(plan(autonomy="suggest"))) is None


def test_a_later_plan_for_an_incident_takes_the_place_of_the_one_that_waits() -> None:
    agent = Remediate()
    first, second = plan(1, autonomy="suggest"), plan(2, autonomy="suggest")
    after(agent, first)
    after(agent, second)

    assert after(agent, approval(first), 1) is None
    assert isinstance(after(agent, approval(second), 2), ActionStarted)


def test_the_same_repair_of_the_same_target_must_cool_down() -> None:
    agent = Remediate()
    after(agent, plan(1))
    refused = after(agent, plan(2), 3)

    assert refused.detail == "cooldown: restart was aimed at ledger 3.0 s ago"
    assert isinstance(after(agent, plan(3, solution="other"), 3), ActionStarted)
    assert isinstance(after(agent, plan(4), 5), ActionStarted)


def test_a_system_gets_so_many_repairs_in_an_hour_and_no_more() -> None:
    agent = Remediate(RemediateConfig(actions_per_hour=3))
    said = [after(agent, plan(number), number * 600) for number in range(1, 8)]

    assert [type(payload).__name__ for payload in said] == [
        *["ActionStarted"] * 3, *["ActionFinished"] * 3, "ActionStarted"
    ]  # fmt: skip
    assert said[3].detail == "rate: ledger had 3 repairs in the last hour, allowed are 3"


def test_taking_back_is_not_held_up_by_cooldown_or_rate() -> None:
    agent = Remediate(RemediateConfig(actions_per_hour=1))
    after(agent, plan(1))

    assert isinstance(after(agent, plan(1, undo_of=derived_id("action", 1)), 1), ActionStarted)
