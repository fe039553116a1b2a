"""One attempt to process one event: what the agent concludes, or what it must know first.

Agents may only wait for the world, and the world's answers are either recorded already or not there yet.  So an attempt
never waits: it ends with the conclusions or with the open question, and is made again once the answer is recorded
(deterministic re-execution, as in Temporal's workflows).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from types import GeneratorType
from typing import Any
from uuid import UUID

from topology.agent import Agent
from topology.errors import AiopsError
from topology.event import Event, Payload
from topology.payloads.collaboration import HelpRequested
from topology.payloads.lessons import ExperienceRecorded
from topology.question import A, Question


class ImpureAgentError(AiopsError):
    """An agent waited for something that is not an answer of the world, which no replay could repeat."""


class AnswerFailedError(AiopsError):
    """The world could not answer, however often it was asked.

    Attributes:
        attempts: how often that was.
    """

    def __init__(self, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question without an answer yet.

    Attributes:
        key: names the answer within the stage's partition: the event and the question's digest.
    """

    key: str
    event: UUID
    question: Question[Any]


class _Unanswered(BaseException):  # not an error, and an agent's `except Exception` must not swallow it
    def __init__(self, open_question: OpenQuestion) -> None:
        self.open_question = open_question


@dataclass(frozen=True, slots=True)
class _World:
    event: Event[Payload]
    answers: Mapping[str, Any]
    used: list[str]

    @property
    def now(self) -> datetime:
        return self.event.timestamp

    async def ask(self, question: Question[A]) -> A:
        key = answer_key(self.event.id, question)
        if key not in self.answers:
            raise _Unanswered(OpenQuestion(key, self.event.id, question))
        self.used.append(key)
        answer = self.answers[key]
        if isinstance(answer, AnswerFailedError):
            raise answer
        return question.answer_type().model_validate(answer)


def answer_key(event: UUID, question: Question[Any]) -> str:
    """What names an answer: equal questions about one event get one answer, in whatever order they are asked."""
    digest = sha256(question.model_dump_json().encode()).hexdigest()[:16]
    return f"{event}/{type(question).__name__}/{digest}"


def attempt(
    agent: Agent[Any, Any], event: Event[Payload], answers: Mapping[str, Any]
) -> tuple[list[Payload], list[str]] | OpenQuestion:
    """Let an agent process an event.

    Returns:
        its conclusions with the keys of the answers it used; or the question that has no answer yet.

    Raises:
        ImpureAgentError: it waited for something else.
        Exception: whatever the agent raises.
    """
    world = _World(event, answers, [])
    try:
        return list(_conclusions(agent, event, world)), list(dict.fromkeys(world.used))
    except _Unanswered as unanswered:
        return unanswered.open_question


class PlainAgent:
    """An agent that only processes, and waits for nothing meanwhile: what it concludes from one event after the other.

    Says the same as :func:`attempt`, at a part of its cost: what depends on the agent's class alone is looked at once.
    """

    def __init__(self, agent: Agent[Any, Any]) -> None:
        self._agent = agent
        self._consumes = agent.consumes
        self._chooses = overrides(type(agent), "can_handle")
        self._world = _PlainWorld()

    def conclude(self, event: Event[Payload]) -> Iterable[Payload] | None:
        """What the agent concludes, to be gone through at once; None, and nothing is done, if it waits after all.

        Raises:
            Exception: whatever the agent raises.
        """
        if not (self._agent.can_handle(event) if self._chooses else type(event.payload) in self._consumes):
            return ()
        self._world.event = event
        concluded = self._agent.process(event, self._world)
        if type(concluded) in _GONE_THROUGH_AT_ONCE:
            return concluded  # type: ignore[return-value]  # a cast would be one more call for each event
        return None if isinstance(concluded, AsyncIterable) else concluded


_GONE_THROUGH_AT_ONCE = frozenset({tuple, list, GeneratorType})


class _PlainWorld:
    __slots__ = ("event",)

    event: Event[Payload]

    @property
    def now(self) -> datetime:
        return self.event.timestamp

    async def ask(self, question: Question[A]) -> A:
        msg = f"{type(question).__name__} was asked in a process() that is not async, and so cannot await the answer"
        raise ImpureAgentError(msg)


def overrides(agent_class: type[Agent[Any, Any]], method: str) -> bool:
    """Whether an agent class has its own version of one of the contract's optional methods."""
    return getattr(agent_class, method) is not getattr(Agent, method)


def _conclusions(agent: Agent[Any, Any], event: Event[Payload], world: _World) -> Iterable[Payload]:
    payload = event.payload
    if isinstance(payload, ExperienceRecorded) and overrides(type(agent), "learn"):
        _finish(agent.learn(payload))
    if isinstance(payload, HelpRequested) and overrides(type(agent), "offer_help"):
        offer = agent.offer_help(payload)
        if offer is not None:
            yield offer
    if agent.can_handle(event):
        concluded = agent.process(event, world)
        yield from _drain(concluded) if isinstance(concluded, AsyncIterable) else concluded


def _drain(concluded: AsyncIterable[Payload]) -> Iterable[Payload]:
    iterator = aiter(concluded)
    while True:
        try:
            yield _finish(anext(iterator))
        except StopAsyncIteration:
            return


def _finish(step: Any) -> Any:
    """Run an awaitable that must not really wait."""
    coroutine: Coroutine[Any, Any, Any] = step if isinstance(step, Coroutine) else _await(step)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    msg = "the agent awaits something other than world.ask(); ask a question that pipeline answers instead"
    raise ImpureAgentError(msg)


async def _await(step: Any) -> Any:
    return await step
