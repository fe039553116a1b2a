"""The stages that are measured, and the topologies of one stage each, or of the same one twice."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal

from pipeline.bench.workload import COUNTED, LATENESS_US, WINDOW_US, systems
from pipeline.loading import load_agent
from tables.aggregates import Count
from tables.table import Table
from tables.windows import Tumbling
from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.graph import Topology
from topology.payloads.signals import MetricSampled
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec
from topology.state import ClosedWindow

INPUT, BETWEEN, OUTPUT, STAGE, NEXT_STAGE = "samples", "forwarded", "conclusions", "measured", "next"

Work = Literal["count", "forward", "number", "forward-twice", "forward-twice-in-memory"]
"""Which of the stages below; or the second of them twice, with a stream between them, or nothing but memory."""
_AGENTS: dict[Work, str] = {
    "count": "CountRequests",
    "forward": "ForwardSamples",
    "number": "NumberSamples",
    "forward-twice": "ForwardSamples",
    "forward-twice-in-memory": "ForwardSamples",
}


class Services(AgentConfig):
    """How many services there are to look up."""

    keys: int


class CountRequests(Agent[MetricSampled, MetricSampled]):
    """Filter, look up, count in windows of ten seconds, say the count when a window closes."""

    Config = Services

    requests = Table("requests", window=Tumbling(timedelta(microseconds=WINDOW_US)), value=Count, keys_max=1_000_000)

    def __init__(self, config: AgentConfig | None = None) -> None:
        super().__init__(config)
        self._systems = systems(self.config.keys)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[MetricSampled]:
        payload = event.payload
        if payload.metric == COUNTED and payload.service in self._systems:
            self.requests.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[MetricSampled]:
        yield MetricSampled(
            service=closed.key, system=self._systems[closed.key], metric="requests.10s", value=closed.value
        )


class ForwardSamples(Agent[MetricSampled, MetricSampled]):
    """One typed output per event: the sample with the system of its service."""

    Config = Services

    def __init__(self, config: AgentConfig | None = None) -> None:
        super().__init__(config)
        self._systems = systems(self.config.keys)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[MetricSampled]:
        payload = event.payload
        system = self._systems.get(payload.service, "")
        yield MetricSampled(service=payload.service, system=system, metric=payload.metric, value=payload.value)


class NumberSamples(Agent[MetricSampled, MetricSampled]):
    """Numbers each service's samples, so that one lost, repeated or out of order shows in what follows."""

    Config = Services

    seen = Table("seen", value=Count, keys_max=2_000_000)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[MetricSampled]:
        number = self.seen.add(event)
        yield MetricSampled(service=event.payload.service, metric="number", value=number)


def topology(work: Work, *, keys: int, partitions: int) -> Topology:
    """One stage between two streams, or two with a third between them."""
    stream = StreamSpec(carries=("MetricSampled",), partitions=partitions)
    between = stream.model_copy(update={"stored": work != "forward-twice-in-memory"})
    names = {STAGE: (INPUT, BETWEEN), NEXT_STAGE: (BETWEEN, OUTPUT)} if "twice" in work else {STAGE: (INPUT, OUTPUT)}
    stages = [
        StageSpec(
            id=stage,
            agent=f"{__name__}:{_AGENTS[work]}",
            consumes=(consumed,),
            emits=(emitted,),
            config={"keys": keys},
            lateness=timedelta(microseconds=LATENESS_US),
        )
        for stage, (consumed, emitted) in names.items()
    ]
    streams = {INPUT: stream, OUTPUT: stream} | ({BETWEEN: between} if "twice" in work else {})
    return resolve(TopologySpec(name="bench", streams=streams, stages=tuple(stages)), load_agent)
