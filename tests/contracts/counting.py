"""A small topology for the engine's contract: count windows, ask the world, remember, forward."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

from agents.ports import ExecuteAction, ExecutionReport
from tables.aggregates import Count
from tables.keyed import Keyed
from tables.table import Table
from tables.windows import Tumbling
from topology import Agent, Event, World
from topology.errors import PoisonedEventError
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten, MetricSampled
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec
from topology.state import ClosedWindow


class CountWindows(Agent[MetricSampled, AnomalyDetected]):
    """Counts samples per service in ten-second windows and says the count when a window closes."""

    samples = Table("samples", key="service", window=Tumbling(timedelta(seconds=10)), value=Count)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        if event.payload.metric == "poison":
            self.samples.add(event)
            msg = "this sample can never be counted"
            raise PoisonedEventError(msg)
        self.samples.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        yield AnomalyDetected(
            service=closed.key, system=closed.key, kind="count", subject=str(closed.start_us), value=closed.value
        )


class CountEarly(Agent[MetricSampled, AnomalyDetected]):
    """Counts as ``CountWindows`` does, twice, and also says how far it has come: with time, and with every second entry."""

    by_time = Table(
        "by-time", key="service", window=Tumbling(timedelta(seconds=10)), value=Count, early=timedelta(seconds=4)
    )
    by_entries = Table("by-entries", key="service", window=Tumbling(timedelta(seconds=10)), value=Count, early=2)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        if event.payload.metric == "poison":
            msg = "this sample can never be counted"
            raise PoisonedEventError(msg)
        self.by_time.add(event)
        self.by_entries.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        subject = f"{closed.table} {closed.start_us} {'final' if closed.final else 'early'} {closed.revision}"
        yield AnomalyDetected(service=closed.key, system=closed.key, kind="count", subject=subject, value=closed.value)


class AskWorld(Agent[LogWritten, AnomalyDetected]):
    """Asks the world about every line, and remembers how many were answered; writes before it asks when told to."""

    answered = Keyed("answered", value=int)

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        service = event.payload.service
        if event.payload.level == "warning":
            self.answered.put(service, (self.answered.get(service) or 0) + 100)
        request = ActionRequest(executor="echo", operation="say", target=service)
        report = await world.ask(ExecuteAction(request=request, idempotency_key=event.payload.message))
        count = (self.answered.get(service) or 0) + 1
        self.answered.put(service, count)
        yield AnomalyDetected(service=service, system=service, kind="answer", subject=report.detail, value=count)


class Forward(Agent[AnomalyDetected, AnomalyDetected]):
    """Numbers what it sees per service, so that order and repetition show."""

    seen = Keyed("seen", value=int)

    def process(self, event: Event[AnomalyDetected], world: World) -> Iterable[AnomalyDetected]:
        number = (self.seen.get(event.payload.service) or 0) + 1
        self.seen.put(event.payload.service, number)
        yield event.payload.model_copy(update={"score": float(number)})


AGENTS = {f"counting:{agent.__name__}": agent for agent in (CountWindows, CountEarly, AskWorld, Forward)}


def topology(*, on_poison: str = "park-key", partitions: int = 3) -> Topology:
    """signals -> (count-windows, ask-world) -> findings -> forward -> numbered."""

    def stage(stage_id: str, agent: str, consumes: str, emits: str) -> StageSpec:
        return StageSpec.model_validate(
            {"id": stage_id, "agent": f"counting:{agent}", "consumes": consumes, "emits": emits, "on_poison": on_poison}
        )

    spec = TopologySpec(
        name="counting",
        streams={
            "signals": StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=partitions),
            "findings": StreamSpec(carries=("AnomalyDetected",), partitions=partitions),
            "numbered": StreamSpec(carries=("AnomalyDetected",), partitions=partitions),
        },
        stages=(
            stage("count-windows", "CountWindows", "signals", "findings"),
            stage("ask-world", "AskWorld", "signals", "findings"),
            stage("forward", "Forward", "findings", "numbered"),
        ),
    )
    return resolve(spec, lambda name: AGENTS[name])


class Echo:
    """Answers with what was asked, and counts how often each question was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        key = question.idempotency_key
        self.asked[key] = self.asked.get(key, 0) + 1
        return ExecutionReport(status="succeeded", detail=f"{key} asked {self.asked[key]} time(s)")


def sample(number: int, service: str, at_s: float, metric: str = "m") -> Event[MetricSampled]:
    """The number makes the id."""
    return Event(
        id=derived_id("sample", number),
        timestamp=from_us(int(at_s * 1e6)),
        source="test",
        payload=MetricSampled(service=service, metric=metric, value=1.0),
    )


def line(number: int, service: str, at_s: float, *, level: str = "info") -> Event[LogWritten]:
    """A line whose message is unique."""
    return Event(
        id=derived_id("line", number),
        timestamp=from_us(int(at_s * 1e6)),
        source="test",
        payload=LogWritten.model_validate({"service": service, "message": f"line {number}", "level": level}),
    )
