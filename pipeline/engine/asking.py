"""Who answers the questions of agents, how often they are tried, and what it comes to when they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel

from pipeline.engine.attempt import AnswerFailedError
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
