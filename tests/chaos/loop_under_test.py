"""What is tortured: windows that close, a stage that asks, one that numbers what it sees, one that tells of incidents."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import timedelta

from tests.contracts.counting import AskWorld, CountWindows, Forward
from topology import Agent, Event, World
from topology.event import Payload
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import AnomalyDetected, IncidentOpened, LogWritten, MetricSampled, Symptom
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

PARTITIONS = 4
LATENESS = timedelta(seconds=2)
_BEGIN_US = 1_700_000_000_000_000
_EVENTS_PER_S = 20
"""Of event time: what is published in a second of a run covers several windows."""
_SERVICES = [f"s{n}" for n in range(40)]
_ZIPF = [1 / (n + 1) for n in range(len(_SERVICES))]


class Tell(Agent[AnomalyDetected, IncidentOpened]):
    """Makes every finding an incident, for the sink."""

    def process(self, event: Event[AnomalyDetected], world: World) -> Iterable[IncidentOpened]:
        told = event.payload
        yield IncidentOpened(
            incident=derived_id("incident", event.id),
            system=told.system,
            title=f"{told.kind} {told.score}",
            severity="info",
            opened_at=event.timestamp,
            symptoms=(Symptom(service=told.service, kind=told.kind, seen_at=event.timestamp),),
        )


_AGENTS = {f"chaos:{agent.__name__}": agent for agent in (CountWindows, AskWorld, Forward, Tell)}


def topology() -> Topology:
    """signals -> (count-windows, ask-world) -> findings -> forward -> numbered -> tell -> incidents."""

    def stage(stage_id: str, agent: str, consumes: str, emits: str, lateness: timedelta = timedelta(0)) -> StageSpec:
        return StageSpec(id=stage_id, agent=f"chaos:{agent}", consumes=(consumes,), emits=(emits,), lateness=lateness)

    spec = TopologySpec(
        name="chaos",
        streams={
            "signals": StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=PARTITIONS),
            "findings": StreamSpec(carries=("AnomalyDetected",), partitions=PARTITIONS),
            "numbered": StreamSpec(carries=("AnomalyDetected",), partitions=PARTITIONS),
            "incidents": StreamSpec(carries=("IncidentOpened",), key="system", partitions=PARTITIONS),
        },
        stages=(
            stage("count-windows", "CountWindows", "signals", "findings", LATENESS),
            stage("ask-world", "AskWorld", "signals", "findings"),
            stage("forward", "Forward", "findings", "numbered"),
            stage("tell", "Tell", "numbered", "incidents"),
        ),
    )
    return resolve(spec, lambda name: _AGENTS[name])


def signals(chance: random.Random, name: str) -> Iterator[Event[Payload]]:
    """Samples and lines without end: some out of order, some late, few services much more than the others.

    Args:
        name: goes into the ids, so that two runs on one server have nothing in common.
    """
    number = 0
    while True:
        at_us = _BEGIN_US + number * 1_000_000 // _EVENTS_PER_S
        if chance.random() < 0.08:
            at_us -= chance.randrange(8_000_000)
        [service] = chance.choices(_SERVICES, _ZIPF)
        payload: Payload
        if chance.random() < 0.7:
            payload = MetricSampled(service=service, metric="m", value=1.0)
        else:
            level = "warning" if chance.random() < 0.1 else "info"
            payload = LogWritten(service=service, message=f"{name} {number}", level=level)  # type: ignore[arg-type]
        yield Event(id=derived_id(name, number), timestamp=from_us(at_us), source="chaos", payload=payload)
        number += 1
