"""A world that answers agents at once, and what is needed to hand them events one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from topology.agent import Agent, World
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.question import A, Question

START = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)

Answers = Mapping[type[Question[Any]], Callable[[Any], Any]]

_numbers = count(1)


class AnsweringWorld:
    """Answers each class of question by a function, and keeps what was asked."""

    def __init__(self, now: datetime = START, answers: Answers | None = None) -> None:
        self.asked: list[Question[Any]] = []
        self._now = now
        self._answers = answers or {}

    @property
    def now(self) -> datetime:
        return self._now

    async def ask(self, question: Question[A]) -> A:
        self.asked.append(question)
        answer: A = self._answers[type(question)](question)
        return answer


def at(seconds: float) -> datetime:
    """So many seconds after the start of the story."""
    return START + timedelta(seconds=seconds)


def event(payload: Payload, seconds: float = 0.0) -> Event[Any]:
    """An event with an id of its own."""
    return Event(id=derived_id("test", next(_numbers)), timestamp=at(seconds), source="test", payload=payload)


def process(
    agent: Agent[Any, Any], happened: Event[Any], answers: Answers | None = None, *, world: World | None = None
) -> list[Any]:
    """What an agent concludes from one event; an agent that does not want it concludes nothing."""
    if not agent.can_handle(happened):
        return []
    concluded = agent.process(happened, world or AnsweringWorld(happened.timestamp, answers))
    if not isinstance(concluded, AsyncIterable):
        return list(concluded)
    return asyncio.run(_collected(concluded))


async def _collected(concluded: AsyncIterable[Any]) -> list[Any]:
    return [payload async for payload in concluded]


def restarted(agent: Agent[Any, Any]) -> Agent[Any, Any]:
    """The same agent after a crash: a new one with the rows that were stored."""
    again = type(agent)(agent.config)
    for name, table in agent.tables.items():
        again.tables[name].restore(table.snapshot())
    return again
