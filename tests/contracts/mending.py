"""Stages that give up on some events in one release and can do them in the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar

from agents.ports import ExecuteAction
from tables.keyed import Keyed
from topology import Agent, Event, World
from topology.errors import PoisonedEventError
from topology.graph import Topology
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec


class Number(Agent[LogWritten, AnomalyDetected]):
    """Numbers the lines of each service."""

    seen = Keyed("seen", value=int)
    hard: ClassVar[str] = ""

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        service, number = event.payload.service, (self.seen.get(event.payload.service) or 0) + 1
        self.seen.put(service, number)
        if event.payload.level == "critical" or event.payload.level == self.hard:
            msg = f"{event.payload.level} is too hard"
            raise PoisonedEventError(msg)
        yield told(event, number)


class AskAndNumber(Agent[LogWritten, AnomalyDetected]):
    """Asks the world about each line before it numbers it."""

    seen = Keyed("seen", value=int)
    hard: ClassVar[str] = ""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        service = event.payload.service
        request = ActionRequest(executor="echo", operation="say", target=service)
        await world.ask(ExecuteAction(request=request, idempotency_key=event.payload.message))
        if event.payload.level == "critical" or event.payload.level == self.hard:
            msg = f"{event.payload.level} is too hard"
            raise PoisonedEventError(msg)
        number = (self.seen.get(service) or 0) + 1
        self.seen.put(service, number)
        yield told(event, number)


class BrokenNumber(Number):
    """Of the release before: errors are too hard for it."""

    hard = "error"


class BrokenAskAndNumber(AskAndNumber):
    """Of the release before: errors are too hard for it."""

    hard = "error"


def told(event: Event[LogWritten], number: int) -> AnomalyDetected:
    service = event.payload.service
    return AnomalyDetected(service=service, system=service, kind="line", subject=event.payload.message, value=number)


def release(*, mended: bool, on_poison: str = "park-key", partitions: int = 2) -> Topology:
    """signals -> number -> numbered, and signals -> ask -> answered.  "critical" is too hard for every release."""
    agents: dict[str, type[Agent[Any, Any]]] = {
        "mending:Number": Number if mended else BrokenNumber,
        "mending:AskAndNumber": AskAndNumber if mended else BrokenAskAndNumber,
    }

    def stage(stage_id: str, agent: str, emits: str) -> StageSpec:
        return StageSpec.model_validate(
            {
                "id": stage_id,
                "agent": f"mending:{agent}",
                "consumes": "signals",
                "emits": emits,
                "on_poison": on_poison,
                "concurrency": 2,
            }
        )

    spec = TopologySpec(
        name="mending",
        streams={
            "signals": StreamSpec(carries=("LogWritten",), partitions=partitions),
            "numbered": StreamSpec(carries=("AnomalyDetected",), partitions=partitions),
            "answered": StreamSpec(carries=("AnomalyDetected",), partitions=partitions),
        },
        stages=(stage("number", "Number", "numbered"), stage("ask", "AskAndNumber", "answered")),
    )
    return resolve(spec, lambda name: agents[name])
