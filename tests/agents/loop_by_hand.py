"""The shipped topology run by hand: one queue, one partition, virtual time, no engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.agents.world import Answers, at, process, restarted
from topology.agent import Agent
from topology.event import Event, Payload
from topology.graph import Stage, Topology
from topology.ids import derived_id
from topology.parse import parse
from topology.payloads.operation import TickPassed
from topology.resolve import resolve

_LOOP = Path(__file__).parents[2] / "topology" / "incident_loop.yaml"


def shipped_topology() -> Topology:
    """The incident loop with the product's agents."""
    return resolve(parse(_LOOP.read_text(), _LOOP.name), _load)


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


class LoopByHand:
    """Runs every stage to the end on each event, in the order in which events come.

    Args:
        answers: who answers the agents' questions.
        restart_always: put a new agent, restored from rows, in place of each before every event.
    """

    def __init__(self, topology: Topology, answers: Answers, *, restart_always: bool = False) -> None:
        self.said: list[Event[Any]] = []
        self._topology = topology
        self._answers = answers
        self._restart_always = restart_always
        self._agents: dict[str, Agent[Any, Any]] = {stage.id: stage.new_agent() for stage in topology.stages}
        self._queue: deque[tuple[str, Event[Any]]] = deque()
        self._numbers = 0

    def hear(self, seconds: float, signals: Iterable[Payload]) -> None:
        """Put signals on the intake and let everything follow from them."""
        for signal in signals:
            self._numbers += 1
            event_id = derived_id("signal", self._numbers)
            self._queue.append(("intake", Event(id=event_id, timestamp=at(seconds), source="world", payload=signal)))
        self._run()

    def tick(self, seconds: float) -> None:
        """Put a tick on every stream that has them."""
        for stream in self._topology.streams.values():
            if stream.ticks_us is not None:
                event_id = derived_id("tick", stream.name, str(seconds))
                tick = Event(id=event_id, timestamp=at(seconds), source="ticker", payload=TickPassed())
                self._queue.append((stream.name, tick))
        self._run()

    def payloads(self, kind: type[Any]) -> list[Any]:
        """Everything of one type that was concluded so far."""
        return [event.payload for event in self.said if isinstance(event.payload, kind)]

    def rows(self) -> dict[str, dict[str, bytes]]:
        """All that all agents remember."""
        return {
            f"{stage}/{name}": table.snapshot()
            for stage, agent in self._agents.items()
            for name, table in agent.tables.items()
        }

    def _run(self) -> None:
        while self._queue:
            stream, happened = self._queue.popleft()
            for stage in self._topology.consumers_of(stream):
                self._process(stage, happened)

    def _process(self, stage: Stage, happened: Event[Any]) -> None:
        agent = self._agents[stage.id]
        if self._restart_always:
            agent = self._agents[stage.id] = restarted(agent)
        for ordinal, payload in enumerate(process(agent, happened, self._answers)):
            event_id = derived_id(happened.id, stage.id, ordinal)
            output = Event(id=event_id, timestamp=happened.timestamp, source=stage.id, payload=payload)
            self.said.append(output)
            self._queue.append((stage.routes[type(payload)].name, output))
