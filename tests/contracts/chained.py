"""Two or three stages with nothing but memory between them, or with stored streams: to see that it makes no difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from tables.aggregates import Count
from tables.keyed import Keyed
from tables.table import Table
from tables.windows import Tumbling
from tests.contracts.counting import AGENTS
from topology import Agent, Event, World
from topology.errors import PoisonedEventError
from topology.graph import Topology
from topology.payloads import AnomalyDetected, LogWritten, MetricSampled
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec
from topology.state import ClosedWindow

Policy = Literal["park-key", "skip"]


class Split(Agent[MetricSampled | LogWritten, MetricSampled | AnomalyDetected]):
    """Says each sample as often as its metric has letters, numbered, and every line as a finding; refuses what is told to."""

    number = Keyed("samples", value=int)

    def process(
        self, event: Event[MetricSampled | LogWritten], world: World
    ) -> Iterable[MetricSampled | AnomalyDetected]:
        payload = event.payload
        if isinstance(payload, LogWritten):
            yield AnomalyDetected(service=payload.service, system=payload.service, kind="line", subject=payload.message)
            return
        if payload.metric == "poison-split":
            msg = "this can never be split"
            raise PoisonedEventError(msg)
        if payload.metric == "elsewhere":
            yield payload.model_copy(update={"service": f"{payload.service}-of-elsewhere-{event.id}"})
            return
        for letter in payload.metric if payload.metric.isalpha() else [payload.metric]:
            number = (self.number.get(payload.service) or 0) + 1
            self.number.put(payload.service, number)
            yield payload.model_copy(update={"metric": letter, "value": float(number)})


class Sum(Agent[MetricSampled, AnomalyDetected]):
    """Counts in windows and says each sum; refuses what it is told to, before or after it has counted."""

    samples = Table("samples", key="service", window=Tumbling(timedelta(seconds=10)), value=Count)
    seen = Keyed("seen", value=int)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        service, metric = event.payload.service, event.payload.metric
        if metric == "poison:before":
            msg = "this can never be counted"
            raise PoisonedEventError(msg)
        seen = (self.seen.get(service) or 0) + 1
        self.seen.put(service, seen)
        self.samples.add(event)
        yield AnomalyDetected(service=service, system=service, kind="seen", subject=metric, value=float(seen))
        if metric == "poison:after":
            msg = "this can be counted and still not be told"
            raise PoisonedEventError(msg)

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        if closed.value == 3 and closed.key == "c":
            msg = "three of c cannot be told"
            raise PoisonedEventError(msg)
        subject = str(closed.start_us)
        yield AnomalyDetected(
            service=closed.key, system=closed.key, kind="count", subject=subject, value=float(closed.value)
        )


class MendedSplit(Split):
    """The next release, which takes everything."""

    def process(
        self, event: Event[MetricSampled | LogWritten], world: World
    ) -> Iterable[MetricSampled | AnomalyDetected]:
        payload = event.payload
        if isinstance(payload, MetricSampled) and payload.metric == "poison-split":
            event = replace(event, payload=payload.model_copy(update={"metric": "mended"}))
        yield from super().process(event, world)


class MendedSum(Sum):
    """The next release, which takes everything."""

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        mended = event.payload.model_copy(update={"metric": event.payload.metric.replace("poison:", "mended:")})
        yield from super().process(replace(event, payload=mended), world)


CHAINED = {
    **AGENTS,
    "chained:Split": Split,
    "chained:Sum": Sum,
    "chained:MendedSplit": MendedSplit,
    "chained:MendedSum": MendedSum,
}


def chain(
    *,
    stored: bool,
    on_poison: Policy = "park-key",
    lateness_s: int = 0,
    partitions: int = 2,
    mended: bool = False,
    where: str | None = None,
) -> Topology:
    """signals -> split -> [samples] -> sum -> [counted] -> forward -> numbered; split also tells lines, on ``lines``."""
    release = "Mended" if mended else ""

    def stage(stage_id: str, agent: str, consumes: object, *emits: str, **more: Any) -> StageSpec:
        return StageSpec.model_validate(
            {"id": stage_id, "agent": agent, "consumes": consumes, "emits": emits, "on_poison": on_poison, **more}
        )

    def stream(*carries: str, **more: Any) -> StreamSpec:
        return StreamSpec(carries=carries, partitions=partitions, **more)

    spec = TopologySpec(
        name="chained",
        streams={
            "signals": stream("MetricSampled", "LogWritten"),
            "samples": stream("MetricSampled", stored=stored),
            "lines": stream("AnomalyDetected"),
            "counted": stream("AnomalyDetected", stored=stored),
            "numbered": stream("AnomalyDetected"),
        },
        stages=(
            stage("split", f"chained:{release}Split", "signals", "samples", "lines"),
            stage(
                "sum",
                f"chained:{release}Sum",
                {"stream": "samples", "where": where},
                "counted",
                lateness=timedelta(seconds=lateness_s),
            ),
            stage("forward", "counting:Forward", "counted", "numbered"),
        ),
    )
    return resolve(spec, lambda name: CHAINED[name])
