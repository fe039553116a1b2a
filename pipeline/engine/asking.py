"""Who answers the questions of agents, how often they are tried, and what it comes to when they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

from pydantic import BaseModel

from pipeline.engine.attempt import AnswerFailedError, OpenQuestion
from topology.errors import AiopsError, ConfigurationError, RetryableError
from topology.graph import Stage
from topology.question import Question
from topology.spec import RetrySpec

Handler = Callable[[Any], Awaitable[BaseModel]]
Handlers = Mapping[type[Question[Any]], Handler]
"""For each class of question, who answers it."""


async def ask(handlers: Handlers, question: Question[Any], retry: RetrySpec) -> Any:
    """The answer as JSON data.

    Raises:
        RetryableError: nobody could answer, in as many attempts as the stage allows.
        ConfigurationError: nobody is there to answer this kind of question.
        Exception: what the handler raises otherwise; asking again would not help.
    """
    handler = handlers.get(type(question))
    if handler is None:
        known = ", ".join(sorted(kind.__name__ for kind in handlers)) or "none"
        msg = f"nobody answers {type(question).__name__}; handlers are registered for: {known}"
        raise ConfigurationError(msg)
    pause_s = retry.first_pause.total_seconds()
    for remaining in reversed(range(retry.attempts)):
        try:
            return (await handler(question)).model_dump(mode="json")
        except RetryableError:
            if not remaining:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, retry.longest_pause.total_seconds())
    raise AssertionError


def failed(question: Question[Any], error: Exception, retry: RetrySpec) -> AnswerFailedError:
    """What to hand in as the answer when :func:`ask` raised."""
    attempts = retry.attempts if isinstance(error, RetryableError) else 1
    return AnswerFailedError(f"{type(question).__name__} was not answered: {error}", attempts)


class BrokenOffError(AiopsError):
    """Who was to answer ended as if it had been cancelled, which nobody did."""


class Asker:
    """Puts the questions of tasks to the world, and keeps the answers until their events are done.

    A worker that loses its mesh, or a lease because it was too slow, drops its tasks and may take them up again; what was
    asked goes on meanwhile, and what was answered is kept until it is committed what came of it.  So nobody is asked twice
    because of it, also when the server forgot that it had recorded the answer.

    Args:
        stages: those whose ``questions_max`` limits how many of their questions are put to the world at once.
    """

    def __init__(self, handlers: Handlers, stages: Iterable[Stage] = ()) -> None:
        self._handlers = handlers
        self._room = {
            stage.id: asyncio.Semaphore(stage.spec.questions_max)
            for stage in stages
            if stage.spec.questions_max is not None
        }
        self._asked: dict[tuple[str, int], dict[str, asyncio.Task[Any]]] = {}

    async def answer(self, asker: tuple[str, int], question: OpenQuestion, retry: RetrySpec) -> Any:
        """The answer to a question of a stage's partition; raises as :func:`ask` does.  Cancelling cancels nothing."""
        asked = self._asked.setdefault(asker, {})
        if question.key not in asked:
            asking = asyncio.create_task(self._ask(asker[0], question, retry))
            asking.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # it may fail with nobody waiting
            asked[question.key] = asking
        return await asyncio.shield(asked[question.key])

    async def _ask(self, stage: str, question: OpenQuestion, retry: RetrySpec) -> Any:
        async with self._room.get(stage, nullcontext()):
            try:
                return await ask(self._handlers, question.question, retry)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                msg = "whoever was to answer broke off, as something it waited for was cancelled"
                raise BrokenOffError(msg) from error  # or nobody would hear of it, and the key would wait for ever

    def forget(self, asker: tuple[str, int], keys: Iterable[str]) -> None:
        """What came of these answers is committed, or there will be none."""
        asked = self._asked.get(asker, {})
        for key in keys:
            asked.pop(key, None)

    def cancel(self, asker: tuple[str, int]) -> None:
        """The partition has another owner, who will ask for itself."""
        for asking in self._asked.pop(asker, {}).values():
            asking.cancel()

    def cancel_all_but(self, askers: Container[tuple[str, int]]) -> None:
        """Cancel what was asked for partitions that did not come back."""
        for asker in [asker for asker in self._asked if asker not in askers]:
            self.cancel(asker)
