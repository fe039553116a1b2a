"""The one contract of everything that decides: the universal agent.

An agent is a stage of the dataflow.  It consumes some event types, emits others, remembers in tables, and asks the
world only by questions.  The engine makes one instance per stage and partition and hands it one event at a time per
key, so an agent needs no locks.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import datetime
from functools import cache
from inspect import isasyncgenfunction
from types import UnionType
from typing import Any, ClassVar, Generic, Protocol, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from topology.event import Event, Payload
from topology.payloads.collaboration import HelpOffered, HelpRequested
from topology.payloads.diagnoses import ProblemDiagnosed
from topology.payloads.lessons import ExperienceRecorded
from topology.question import A, Question
from topology.state import BoundState, ClosedWindow, StateDeclaration

In = TypeVar("In", bound=Payload)
Out = TypeVar("Out", bound=Payload)


class AgentConfig(BaseModel):
    """Settings of one stage, from its ``config`` in the topology; an agent derives its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class World(Protocol):
    """What an agent may ask while it processes one event."""

    @property
    def now(self) -> datetime:
        """The time of the event in hand; a replay gives the same one."""

    async def ask(self, question: Question[A]) -> A:
        """The world's answer (``agents.ports`` lists the questions).

        Each answer is recorded under the event in hand when it arrives and is never asked for again: a redelivery or a
        replay gets the recorded one.  The n-th question about an event is always the same question.

        Raises:
            AiopsError: nobody could answer, in as many attempts as the stage allows.  Conclude something without the
                answer, or let it pass through: then the event becomes a dead letter.
        """


Outputs = Iterable[Out] | AsyncIterable[Out]


class Agent(Generic[In, Out]):
    """Consume one event, emit none, one or many payloads.

    ``class Notice(Agent[LogWritten, AnomalyDetected])`` declares what is consumed and emitted; several types are
    joined with ``|``.  An engine may hand over the same event twice (after a crash), but never two events of one key
    at once, and it forgets what the first, uncommitted attempt did to the tables.  So ``process`` must give equal
    outputs for equal inputs, tables and answers, and need not care about repetition.
    """

    Config: ClassVar[type[AgentConfig]] = AgentConfig
    consumes: ClassVar[frozenset[type[Payload]]] = frozenset()
    emits: ClassVar[frozenset[type[Payload]]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = [base for base in vars(cls).get("__orig_bases__", ()) if _is_agent(get_origin(base))]
        for base in declared:
            if get_origin(base) is Agent:
                consumed, emitted = get_args(base)
                cls.consumes, cls.emits = _payload_types(consumed), _payload_types(emitted)
        if declared and all(get_origin(base) is not Agent for base in declared):
            msg = f"{cls.__name__} completes a generic agent; derive it also from Agent[Consumed, Emitted] itself"
            raise TypeError(msg)

    def __init__(self, config: AgentConfig | None = None) -> None:
        self.config: Any = config if config is not None else self.Config()
        self._tables: dict[str, BoundState] = {}
        for attribute, declaration in self.state_declarations().items():
            # In place of the declaration, which would find it too, at the cost of two calls each time.
            vars(self)[attribute] = self._tables[declaration.name] = declaration.bind()

    @classmethod
    @cache
    def state_declarations(cls) -> Mapping[str, StateDeclaration]:
        """The tables the class declares, by attribute name."""
        return {
            name: value
            for owner in reversed(cls.__mro__)
            for name, value in vars(owner).items()
            if isinstance(value, StateDeclaration)
        }

    @property
    def tables(self) -> Mapping[str, BoundState]:
        """The running state of this instance, by table name."""
        return self._tables

    async def initialize(self) -> None:
        """Called once, after the tables are restored and before the first event."""

    async def shutdown(self) -> None:
        """Called once, after the last commit."""

    def can_handle(self, event: Event[Payload]) -> bool:
        """Whether this agent wants the event; by default when its type is consumed."""
        return type(event.payload) in self.consumes

    def process(self, event: Event[In], world: World) -> Outputs[Out]:
        """Conclude something from one event.

        Write a plain generator when nothing is asked of the world, an ``async`` generator when something is.

        Raises:
            PoisonedEventError: the event can never be processed; so does any other error, since equal inputs would give
                it again.  What may succeed later is a question to the world: those are tried again with back-off.
        """
        raise NotImplementedError

    def window_closed(self, closed: ClosedWindow) -> Iterable[Out]:
        """Conclude something from the result of a window, mostly from its final one.

        A table with ``early`` also gives results of open windows: ``closed.final`` is False then, and ``closed.revision``
        counts the results of this window before this one, which it takes back; so does the final one.  Conclude from all
        of them, or return nothing unless ``closed.final``.

        Outputs' ids come from the window, and of early results from the revision and the trigger.
        """
        del closed
        return ()

    async def learn(self, experience: ExperienceRecorded) -> None:
        """Take in what a repair taught; the engine forwards ``ExperienceRecorded`` to agents that override this."""
        del experience

    def request_help(self, problem: ProblemDiagnosed) -> HelpRequested | None:
        """The request to publish when this agent is stuck with a problem; None when it is not."""
        del problem
        return None

    def offer_help(self, request: HelpRequested) -> HelpOffered | None:
        """A bid for somebody else's problem; None when this agent has nothing to offer."""
        del request
        return None


def is_plain(agent_class: type[Agent[Any, Any]]) -> bool:
    """Whether agents of a class only process, and ask nothing meanwhile, as far as the class tells."""
    more = any(getattr(agent_class, method) is not getattr(Agent, method) for method in ("learn", "offer_help"))
    return not more and not isasyncgenfunction(agent_class.process)


def _is_agent(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Agent)


def _payload_types(annotation: Any) -> frozenset[type[Payload]]:
    if get_origin(annotation) in (Union, UnionType):
        return frozenset().union(*(_payload_types(arg) for arg in get_args(annotation)))
    if isinstance(annotation, type) and issubclass(annotation, Payload):
        return frozenset({annotation}) if annotation is not Payload else frozenset()
    return frozenset()  # a type variable of an intermediate class
