"""Who answers the questions of agents, how often they are tried, and what it comes to when they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.engine.attempt import AnswerFailedError, OpenQuestion
from topology.errors import ConfigurationError, RetryableError
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


class Asker:
    """Puts the questions of tasks to the world, and keeps the answers until they are recorded.

    A worker that loses its mesh drops its tasks and takes them up again when the mesh is back; what was asked in the
    meantime goes on, so nobody is asked twice because of it.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._asked: dict[tuple[str, int], dict[str, asyncio.Task[Any]]] = {}

    async def answer(self, asker: tuple[str, int], question: OpenQuestion, retry: RetrySpec) -> Any:
        """The answer to a question of a stage's partition; raises as :func:`ask` does.  Cancelling cancels nothing."""
        asked = self._asked.setdefault(asker, {})
        if question.key not in asked:
            asking = asyncio.create_task(ask(self._handlers, question.question, retry))
            asking.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # it may fail with nobody waiting
            asked[question.key] = asking
        return await asyncio.shield(asked[question.key])

    def forget(self, asker: tuple[str, int], question: OpenQuestion) -> None:
        """The answer is recorded, or there will be none."""
        self._asked.get(asker, {}).pop(question.key, None)

    def cancel(self, asker: tuple[str, int]) -> None:
        """The partition has another owner, who will ask for itself."""
        for asking in self._asked.pop(asker, {}).values():
            asking.cancel()

    def cancel_all_but(self, askers: Container[tuple[str, int]]) -> None:
        """Cancel what was asked for partitions that did not come back."""
        for asker in [asker for asker in self._asked if asker not in askers]:
            self.cancel(asker)
