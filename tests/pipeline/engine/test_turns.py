"""Urgent stages overtake telemetry on a busy worker, and telemetry goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Lease, Mesh
from pipeline.engine.owned import Owned
from pipeline.engine.publisher import Publisher
from pipeline.engine.reading_plan import ENOUGH
from pipeline.engine.record import BEGINNING, Restored
from pipeline.engine.rows import Remembered
from pipeline.engine.task import PartitionTask
from pipeline.engine.turns import LOOK_S, Turns
from pipeline.engine.verdict import Memory
from tests.contracts.counting import line, sample
from tests.contracts.meshes import MESHES, opened
from tests.pipeline.engine.working import idle, running, worker
from tests.polling import eventually
from topology import Agent, Event, World
from topology.graph import Stage, Topology
from topology.payloads import AnomalyDetected, LogWritten, MetricSampled
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

RECORDS_PER_STEP = 20


class Telemetry(Agent[MetricSampled, AnomalyDetected]):
    """Takes its time, longer in one step than between two looks, and says nothing; counts what it has seen."""

    seen: ClassVar[int] = 0

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        type(self).seen += 1
        until = time.perf_counter() + 0.0003
        while time.perf_counter() < until:
            pass
        return ()


class Passes(Agent[LogWritten, LogWritten]):
    """One hop of the way of an incident."""

    def process(self, event: Event[LogWritten], world: World) -> Iterable[LogWritten]:
        yield event.payload


class Acts(Agent[LogWritten, AnomalyDetected]):
    """The last hop; notes how much telemetry had been seen by then."""

    at: ClassVar[list[int]] = []

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        self.at.append(Telemetry.seen)
        return ()


AGENTS: dict[str, type[Agent[Any, Any]]] = {
    "turns:Telemetry": Telemetry,
    "turns:Passes": Passes,
    "turns:Acts": Acts,
}


def graph(*, low: int = 4) -> Topology:
    """Telemetry in several partitions, and incidents that take three hops."""

    def stream(carried: str, priority: str, partitions: int = 1) -> StreamSpec:
        return StreamSpec.model_validate({"carries": [carried], "priority": priority, "partitions": partitions})

    def stage(name: str, agent: str, consumes: str, emits: str) -> StageSpec:
        settings = {"id": name, "agent": f"turns:{agent}", "consumes": consumes, "records_per_step": RECORDS_PER_STEP}
        return StageSpec.model_validate({**settings, "emits": emits})

    return resolve(
        TopologySpec(
            name="turns",
            streams={
                "telemetry": stream("MetricSampled", "low", low),
                "incidents": stream("LogWritten", "high"),
                "diagnoses": stream("LogWritten", "high"),
                "plans": stream("LogWritten", "high"),
                "out": stream("AnomalyDetected", "normal"),
            },
            stages=(
                stage("notice", "Telemetry", "telemetry", "out"),
                stage("diagnose", "Passes", "incidents", "diagnoses"),
                stage("decide", "Passes", "diagnoses", "plans"),
                stage("act", "Acts", "plans", "out"),
            ),
        ),
        lambda name: AGENTS[name],
    )


@pytest.mark.parametrize("kind", MESHES[:2])
async def test_an_incident_overtakes_telemetry_at_every_hop(kind: str, request: pytest.FixtureRequest) -> None:
    topology = graph()
    Telemetry.seen = 0
    Acts.at.clear()
    published_at: list[int] = []

    def acted_upon() -> bool:
        return len(Acts.at) == len(published_at)

    async def strike(mesh: Mesh, number: int) -> None:
        await eventually(lambda: Telemetry.seen > number * 500, saying="it is busy")
        await Publisher(mesh, topology.streams["incidents"])([line(number, "shop", number)])
        published_at.append(Telemetry.seen)

    async with opened(kind, request) as mesh:
        telemetry = [sample(n, f"s{n}", n) for n in range(6_000)]
        await Publisher(mesh, topology.streams["telemetry"])(telemetry)
        async with running(worker(mesh, topology)):
            for number in range(1, 4):
                await strike(mesh, number)
                await eventually(acted_upon, saying="it is acted upon")
            assert Telemetry.seen < 6_000, "it was busy all the time"
            await eventually(lambda: Telemetry.seen == 6_000, saying="telemetry is not starved")

    steps = [-(-(acted - at) // RECORDS_PER_STEP) for at, acted in zip(published_at, Acts.at, strict=True)]
    # Three hops, and each waits for the step in hand; one more, because who publishes is told when that is over.
    assert max(steps) <= 4, steps


def owned(stage: Stage, partition: int) -> Owned:
    """As a worker holds it."""
    restored = Restored({(stream.name, partition): BEGINNING for stream in stage.inputs})
    task = PartitionTask(stage, partition, Remembered(stage, restored))
    return Owned(stage, Lease(stage.id, partition, "1"), Memory(), task)


@given(st.sets(st.integers(0, 6), min_size=1))
def test_every_task_has_its_turn_and_the_urgent_ones_before(indices: set[int]) -> None:
    topology = graph()
    notice, diagnose, decide, act = topology.stages
    held = [*(owned(notice, n) for n in range(4)), owned(diagnose, 0), owned(decide, 0), owned(act, 0)]
    ready = [held[n] for n in sorted(indices)]
    turns = [*Turns(MemoryMesh(lambda: 0), topology.stages).order(ready)]

    assert sorted(map(id, turns)) == sorted(map(id, ready))
    assert turns == [each for each in ready if each.stage is not notice] + [e for e in ready if e.stage is notice]


def test_nobody_looks_while_there_is_little_to_do_or_nothing_more_urgent() -> None:
    topology = graph()
    notice, diagnose, *_ = (owned(stage, 0) for stage in topology.stages)
    turns = Turns(MemoryMesh(lambda: 0), topology.stages)
    turns.read_at(10.0)

    assert not turns.look_is_due(notice, 10.0 + LOOK_S / 2)
    assert turns.look_is_due(notice, 10.0 + LOOK_S * 2)
    assert not turns.look_is_due(diagnose, 11.0), "it is as urgent as can be"
    assert not Turns(MemoryMesh(lambda: 0), [notice.stage]).look_is_due(notice, 11.0), "nothing is more urgent"


async def test_what_is_read_for_the_urgent_is_not_read_for_others() -> None:
    topology = graph()
    mesh = MemoryMesh(lambda: 0)
    notice, diagnose, *_ = (owned(stage, 0) for stage in topology.stages)
    for stream, event in (("telemetry", sample(1, "a", 1)), ("incidents", line(1, "a", 1))):
        await Publisher(mesh, topology.streams[stream])([event])

    turns = Turns(mesh, topology.stages)
    assert await turns.look([notice, diagnose], notice, 1.0) == ([diagnose], 1)
    assert (notice.task.waiting, diagnose.task.waiting) == (0, 1)
    assert await turns.look([notice, diagnose], notice, 1.0) == ([diagnose], 0)


async def test_of_what_is_urgent_no_more_is_read_than_can_be_begun() -> None:
    topology = graph()
    mesh = MemoryMesh(lambda: 0)
    notice, diagnose, *_ = (owned(stage, 0) for stage in topology.stages)
    await Publisher(mesh, topology.streams["incidents"])([line(n, "a", n) for n in range(ENOUGH + 100)])

    turns = Turns(mesh, topology.stages)
    assert await turns.look([notice, diagnose], notice, 1.0) == ([diagnose], ENOUGH)
    assert await turns.look([notice, diagnose], notice, 1.0) == ([diagnose], 0)
    diagnose.task.step(RECORDS_PER_STEP)
    assert await turns.look([notice, diagnose], notice, 1.0) == ([diagnose], 100)


class SlowlyActs(Agent[LogWritten, AnomalyDetected]):
    """Urgent, and takes a millisecond."""

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        time.sleep(0.001)
        return ()


async def test_many_urgent_tasks_that_overtake_do_not_cost_the_lease() -> None:
    def stream(carried: str, priority: str) -> StreamSpec:
        return StreamSpec.model_validate({"carries": [carried], "priority": priority, "partitions": 20})

    stages = [
        StageSpec(id="notice", agent="turns:Telemetry", consumes=("telemetry",), emits=("out",), records_per_step=20),
        StageSpec(id="act", agent="turns:SlowlyActs", consumes=("incidents",), emits=("out",)),
    ]
    streams = {
        "telemetry": stream("MetricSampled", "low"),
        "incidents": stream("LogWritten", "high"),
        "out": stream("AnomalyDetected", "normal"),
    }
    agents: dict[str, type[Agent[Any, Any]]] = {**AGENTS, "turns:SlowlyActs": SlowlyActs}
    topology = resolve(TopologySpec(name="urgent", streams=streams, stages=tuple(stages)), agents.get)
    mesh = MemoryMesh(lambda: time.time_ns() // 1_000_000)
    await Publisher(mesh, topology.streams["telemetry"])([sample(n, f"s{n}", n) for n in range(1_000)])
    await Publisher(mesh, topology.streams["incidents"])([line(n, f"s{n}", n) for n in range(2_000)])
    one = worker(mesh, topology, lease_s=1.0)
    async with running(one):
        await eventually(lambda: idle(mesh, topology), saying="everything is committed", within_s=40)
    assert one.counts.fenced == 0
