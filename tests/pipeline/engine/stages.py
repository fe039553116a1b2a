"""Agents that misbehave, each in its own way, and the task of a stage of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import Any

from agents.ports import ExecuteAction, RecallProblem
from pipeline.engine.record import BEGINNING, Commit, Offset, Record, Restored, output_for
from pipeline.engine.rows import Remembered
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import Memory, MustRestoreError
from tables.aggregates import Count
from tables.keyed import Keyed
from tables.table import Table
from tables.windows import Tumbling
from topology import Agent, Event, World
from topology.errors import AiopsError, PoisonedEventError
from topology.event import Payload
from topology.graph import Topology
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten, MetricSampled
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec
from topology.state import ClosedWindow

SIGNALS = ("signals", 0)


def told(service: str, subject: str = "", value: float | None = None) -> AnomalyDetected:
    return AnomalyDetected(service=service, system=service, kind="told", subject=subject, value=value)


class Picky(Agent[MetricSampled, AnomalyDetected]):
    """Counts; refuses "poison" before it has touched anything, "half" after it has counted."""

    count = Keyed("count", value=int)
    seen = 0

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        type(self).seen += 1
        service, metric = event.payload.service, event.payload.metric
        if metric == "poison":
            msg = "this can never be counted"
            raise PoisonedEventError(msg)
        count = (self.count.get(service) or 0) + 1
        self.count.put(service, count)
        yield told(service, value=count)
        if metric == "half":
            msg = "too late"
            raise PoisonedEventError(msg)


class Crowded(Agent[MetricSampled, AnomalyDetected]):
    """Has room for two keys, for ten seconds each, and for two notes."""

    few = Table("few", value=Count, keys_max=2, retain=timedelta(seconds=10))
    notes = Keyed("notes", value=str, keys_max=2)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        self.few.add(event)
        self.notes.put(event.payload.service, event.payload.metric)
        return ()


class Unstorable(Agent[MetricSampled, AnomalyDetected]):
    """Puts into its table what no mesh can keep, when told to."""

    notes = Keyed("notes", value=dict)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        note: Any = {"bad": object()} if event.payload.metric == "unstorable" else {"good": event.payload.value}
        self.notes.put(event.payload.service, note)
        yield told(event.payload.service)


class BadWindow(Agent[MetricSampled, AnomalyDetected]):
    """Cannot conclude anything from the windows of one service."""

    samples = Table("samples", key="service", window=Tumbling(timedelta(seconds=10)), value=Count)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        self.samples.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        if closed.key == "bad":
            msg = "division by zero"
            raise ZeroDivisionError(msg)
        yield told(closed.key, str(closed.start_us), closed.value)


class AsksTwice(Agent[LogWritten, AnomalyDetected]):
    """Asks the same question twice, then another; fails afterwards when told to."""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        request = ActionRequest(executor="echo", operation="say", target=event.payload.service)
        first = await world.ask(ExecuteAction(request=request, idempotency_key="one"))
        again = await world.ask(ExecuteAction(request=request, idempotency_key="one"))
        other = await world.ask(ExecuteAction(request=request, idempotency_key="two"))
        if event.payload.level == "error":
            msg = "after all that"
            raise PoisonedEventError(msg)
        yield told(event.payload.service, f"{first.detail} {again.detail} {other.detail}")


class LateThenAsks(Agent[LogWritten, AnomalyDetected]):
    """Counts, perhaps too late, and asks afterwards."""

    lines = Table("lines", key="service", window=Tumbling(timedelta(seconds=10)), value=Count)

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        self.lines.add(event)
        request = ActionRequest(executor="echo", operation="say", target=event.payload.service)
        report = await world.ask(ExecuteAction(request=request, idempotency_key=event.payload.message))
        yield told(event.payload.service, report.detail)


class Impure(Agent[LogWritten, AnomalyDetected]):
    """Waits for something that no replay could repeat."""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        import asyncio

        await asyncio.sleep(0)
        yield told(event.payload.service)


class CarriesOn(Agent[LogWritten, AnomalyDetected]):
    """Does without an answer when there is none."""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        request = ActionRequest(executor="echo", operation="say", target=event.payload.service)
        try:
            report = await world.ask(ExecuteAction(request=request, idempotency_key=event.payload.message))
        except AiopsError:
            yield told(event.payload.service, "without")
        else:
            yield told(event.payload.service, report.detail)


def topology_of(agent: type[Agent[Any, Any]], *, partitions: Any = 1, **settings: object) -> Topology:
    """signals -> the agent -> findings, in one partition or more."""
    stage = {"id": "stage", "agent": "stages:Agent", "consumes": "signals", "emits": "findings", **settings}
    spec = TopologySpec(
        name="one-stage",
        streams={
            "signals": StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=partitions),
            "findings": StreamSpec(carries=("AnomalyDetected",), partitions=partitions),
        },
        stages=(StageSpec.model_validate(stage),),
    )
    return resolve(spec, lambda _: agent)


class Bench:
    """One task by hand: what is offered, asked and committed, and how often it had to be restored."""

    def __init__(self, agent: type[Agent[Any, Any]], **settings: object) -> None:
        self.topology = topology_of(agent, **settings)
        self.stage = self.topology.stages[0]
        self.memory = Memory()
        self.restored = Restored({SIGNALS: BEGINNING})
        self.restores = -1
        self.offered: list[Record] = []
        self.outputs: list[Event[Any]] = []
        self.task = self.restore()

    def restore(self) -> PartitionTask:
        """A new task from what is committed."""
        self.restores += 1
        self.task = PartitionTask(self.stage, 0, Remembered(self.stage, self.restored), self.memory)
        self.task.offer(self.offered)
        return self.task

    def offer(self, *events: Event[Payload]) -> None:
        """Put events into the partition."""
        for event in events:
            output = output_for(self.topology.streams["signals"], event)
            offset = Offset(1_000 + len(self.offered), 0)
            self.offered.append(Record(*SIGNALS, offset, output.key, output.event_type, output.value))
        self.task.offer(self.offered)

    def work(self, answer: Callable[[ExecuteAction], Any] | None = None) -> Commit:
        """Step until nothing more can be done, answering what is asked; make the commit."""
        while True:
            try:
                self.task.step()
            except MustRestoreError:
                self.restore()
            for question in self.task.take_questions() if answer is not None else ():
                asked = question.question
                assert not isinstance(asked, RecallProblem)
                assert answer is not None
                self.task.answer(question, answer(asked))  # type: ignore[arg-type]
            if not self.task.ready:
                return self.commit()

    def commit(self) -> Commit:
        """What a mesh would do."""
        commit = self.task.take_commit()
        self.restored.offsets.update(commit.offsets)
        for row, value in commit.state.items():
            self.restored.state.pop(row, None)
            if value is not None:
                self.restored.state[row] = value
        self.outputs += [Record(o.stream, 0, BEGINNING, o.key, o.event_type, o.value).event for o in commit.outputs]
        return commit

    def said(self, event_type: str = "anomaly.detected") -> list[Any]:
        """Payloads of one type that were committed."""
        return [output.payload for output in self.outputs if output.event_type == event_type]
