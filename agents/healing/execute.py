"""Have a started action carried out, once."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agents.ports import ExecuteAction, ExecutionReport
from topology.agent import Agent, AgentConfig, World
from topology.errors import AiopsError, RetryableError
from topology.event import Event
from topology.payloads.healing import ActionFinished, ActionStarted


class ExecuteConfig(AgentConfig):
    """``dry_run``: executors say what they would do, and do nothing."""

    dry_run: bool = False


class Execute(Agent[ActionStarted, ActionFinished]):
    """Asks the executor, with the action's id as the key that makes doing it twice impossible.

    After a crash in between, the start is on the stream and its end is not: it is handed to the executor again, which
    answers what it answered before.  What the executor cannot do at all is an action that failed.

    Remembers: nothing.
    """

    Config = ExecuteConfig

    async def process(self, event: Event[ActionStarted], world: World) -> AsyncIterator[ActionFinished]:
        """The start of an action in, its end out."""
        started = event.payload
        question = ExecuteAction(
            request=started.request, idempotency_key=str(started.action), dry_run=self.config.dry_run
        )
        report = await _carried_out(question, world)
        yield ActionFinished(
            action=started.action,
            plan=started.plan,
            incident=started.incident,
            system=started.system,
            problem=started.problem,
            solution=started.solution,
            attempt=started.attempt,
            request=started.request,
            undo_of=started.undo_of,
            recalled=started.recalled,
            status=report.status,
            detail=report.detail,
            undo=report.undo,
        )


async def _carried_out(question: ExecuteAction, world: World) -> ExecutionReport:
    try:
        return await world.ask(question)
    except RetryableError:
        raise
    except AiopsError as error:  # nobody else will end this action, and whatever waits for its end would wait for ever
        return ExecutionReport(status="failed", detail=f"the executor {question.request.executor!r} gave up: {error}")
