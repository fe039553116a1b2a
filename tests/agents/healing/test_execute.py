"""A started action is carried out and ends."""

from __future__ import annotations

import pytest

from agents.healing.execute import Execute, ExecuteConfig
from agents.healing.remediate import Remediate
from agents.ports import ExecuteAction, ExecutionReport
from tests.agents.stories import plan, request
from tests.agents.world import AnsweringWorld, event, process
from topology.errors import PoisonedEventError, RetryableError
from topology.payloads.healing import ActionFinished, ActionStarted


def started() -> ActionStarted:
    (action,) = process(Remediate(), event(plan()))
    assert isinstance(action, ActionStarted)
    return action


def test_the_executor_is_asked_for_exactly_the_request_under_the_actions_id() -> None:
    action = started()
    report = ExecutionReport(status="succeeded", detail="done", undo=request("start"))
    world = AnsweringWorld(answers={ExecuteAction: lambda _: report})
    (end,) = process(Execute(ExecuteConfig(dry_run=True)), event(action), world=world)

    assert world.asked == [ExecuteAction(request=plan().request, idempotency_key=str(action.action), dry_run=True)]
    assert isinstance(end, ActionFinished)
    assert (end.action, end.status, end.detail, end.undo) == (action.action, "succeeded", "done", request("start"))


def test_an_executor_that_gives_up_is_an_action_that_failed() -> None:
    def execute(_: ExecuteAction) -> ExecutionReport:
        raise PoisonedEventError("no such unit")

    (end,) = process(Execute(), event(started()), {ExecuteAction: execute})

    assert (end.status, end.detail) == ("failed", "the executor 'process' gave up: no such unit")


def test_an_executor_that_is_not_ready_is_asked_again_by_the_engine() -> None:
    def execute(_: ExecuteAction) -> ExecutionReport:
        raise RetryableError("the control socket is away")

    with pytest.raises(RetryableError):
        process(Execute(), event(started()), {ExecuteAction: execute})
