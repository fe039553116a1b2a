"""``aiops approve`` and ``aiops deny``."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from pipeline.engine.drive import Driver
from pipeline.loading import load_topology
from tests.pipeline.commands.calling import call, call_json
from tests.pipeline.commands.stories import store
from tests.pipeline.knowledge.telling import event, incident_events, incident_id, restart, whole_story
from topology.codec import decode
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.moments import to_us
from topology.payloads import ActionFinished, ActionStarted, ApprovalGiven, PlanProposed

PLAN = derived_id("plan", "waits")


def proposed(number: int = 3, *, seconds: float = 1.0, attempt: int = 1) -> Event[Payload]:
    plan = PlanProposed(
        plan=PLAN if attempt == 1 else derived_id("plan", "waits", attempt),
        incident=incident_id(number),
        system="shop",
        problem="fp:v1:crash",
        solution="restart",
        request=restart(),
        attempt=attempt,
        autonomy="suggest",
        reason="worth most",
    )
    return event(plan, seconds)


@pytest.fixture
def waiting(stored_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Event[Payload]:
    """One plan that waits, beside an incident that is over."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    plan = proposed()
    store(stored_url, [*whole_story(1), incident_events(3)[0], plan])
    return plan


def on_the_stream() -> list[Event[Payload]]:
    lines = call("tap", "plans", "--from-start", "--count", "1", "--json").stdout.splitlines()
    return [decode(line) for line in lines]


def test_plans_that_wait_are_listed(waiting: Event[Payload]) -> None:
    [line] = call("approve").stdout.splitlines()
    [listed] = call_json("approve", "--json")

    assert line.startswith(str(PLAN)[:8])
    assert line.endswith("shop: restart ledger by supervisor: worth most")
    assert (listed["plan"], listed["digest"]) == (str(PLAN), restart().digest)


def test_an_approval_is_bound_to_the_exact_request_and_counts_once(waiting: Event[Payload]) -> None:
    for _ in range(2):
        result = call("approve", str(PLAN)[:8])
        assert result.exit_code == 0, result.output
        assert "approved: restart ledger" in result.stdout

    [given] = on_the_stream()
    assert isinstance(given.payload, ApprovalGiven)
    assert (given.payload.plan, given.payload.digest) == (PLAN, restart().digest)
    assert given.payload.approved
    assert given.payload.by
    assert given.causation_id == waiting.id


@pytest.mark.parametrize(("verb", "concluded"), [("approve", ActionStarted), ("deny", ActionFinished)])
def test_the_loop_understands_the_answer(waiting: Event[Payload], verb: str, concluded: type[Payload]) -> None:
    call_json(verb, PLAN.hex[:8], "--reason", "after hours", "--json")
    [given] = on_the_stream()

    async def actions() -> list[Event[Payload]]:
        # Both at the plan's time: the plan of this test is older than an approval may be.
        driver = Driver(load_topology(), start_us=to_us(waiting.timestamp))
        await driver.publish("plans", [waiting, event(given.payload, 2.0)])
        await driver.run_until_idle()
        return await driver.events("actions")

    action, *_ = asyncio.run(actions())
    assert isinstance(action.payload, concluded)
    if isinstance(action.payload, ActionFinished):
        assert action.payload.status == "refused"
        assert action.payload.detail.endswith(": after hours")


def test_a_plan_that_is_answered_replaced_or_moot_waits_no_longer(stored_url: str) -> None:
    store(stored_url, [*incident_events(4), proposed(4)])
    assert call("approve").stdout == "no plan waits for an approval\n"

    store(stored_url, [incident_events(3)[0], proposed(), proposed(seconds=5, attempt=2)])
    [listed] = call_json("approve", "--json")
    assert listed["plan"] == str(derived_id("plan", "waits", 2))

    answer = ApprovalGiven(plan=listed["plan"], system="shop", digest=listed["digest"], approved=False, by="somebody")
    store(stored_url, [event(answer, 6)])
    result = call("deny", listed["plan"])
    assert result.exit_code == 1
    assert "found no waiting plan" in result.stderr


def test_an_ambiguous_beginning_is_refused(stored_url: str) -> None:
    store(stored_url, [incident_events(3)[0], incident_events(5)[0], proposed(), event(_other_plan(), 2)])

    result = call("approve", "")

    assert result.exit_code == 1
    assert "give more of the id" in result.stderr


def _other_plan() -> PlanProposed:
    data = orjson.loads(proposed(5).payload.model_dump_json())
    return PlanProposed.model_validate({**data, "plan": str(derived_id("plan", "other"))})
