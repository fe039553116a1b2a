"""Who writes waits while a reader that must not be overrun is behind: stages, and sources at the door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.mesh import Mesh
from pipeline.engine.pressure import LOOK_S, BackPressure, Pressure, StreamFullError
from pipeline.engine.publisher import Publisher
from pipeline.engine.worker import Worker
from pipeline.sources.journal import Journal, Keeping
from pipeline.sources.journaled import JournaledPublisher
from tests.contracts.counting import AskWorld, line, sample
from tests.contracts.meshes import MESHES, opened
from tests.outages.small_deployment import passes
from tests.pipeline.engine.stages import Bench, CarriesOn
from tests.pipeline.engine.working import Gate, asking, events, idle, running, worker
from tests.polling import eventually
from topology import Agent, Event, World
from topology.graph import Topology
from topology.payloads import LogWritten
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec


class Passes(Agent[LogWritten, LogWritten]):
    """Hands lines on."""

    def process(self, event: Event[LogWritten], world: World) -> Iterable[LogWritten]:
        yield event.payload


AGENTS: dict[str, type[Agent[Any, Any]]] = {"pressure:Passes": Passes, "pressure:AskWorld": AskWorld}


def graph(*, signals: object = "signals", lines: object = "lines") -> Topology:
    """signals -> pass-on -> lines -> ask -> findings; how the two streams are read is the test's."""

    def stage(stage_id: str, agent: str, consumes: object, emits: str) -> StageSpec:
        return StageSpec.model_validate(
            {"id": stage_id, "agent": f"pressure:{agent}", "consumes": consumes, "emits": emits, "concurrency": 2}
        )

    carries = {"signals": "LogWritten", "lines": "LogWritten", "findings": "AnomalyDetected"}
    return resolve(
        TopologySpec(
            name="pressure",
            streams={name: StreamSpec(carries=(each,), partitions=2) for name, each in carries.items()},
            stages=(
                stage("pass-on", "Passes", signals, "lines"),
                stage("ask", "AskWorld", lines, "findings"),
            ),
        ),
        lambda name: AGENTS[name],
    )


def said(count: int, *, after: int = 0) -> list[Event[LogWritten]]:
    return [line(n, f"s{n % 3}", n) for n in range(after, after + count)]


async def lag(mesh: Mesh, topology: Topology, stage: str) -> int:
    """How much waits for a stage, in all of its partitions."""
    [stream] = topology.stage(stage).inputs
    consumers = [(stage, partition, (stream.name, partition)) for partition in range(2)]
    return sum(each.waiting for each in await mesh.lags(consumers))


class CountsLooks:
    """A mesh that counts how often it was asked how much waits."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mesh, name)

    async def lags(self, consumers: Sequence[Any]) -> Any:
        self.looks += 1
        return await self._mesh.lags(consumers)


@pytest.mark.parametrize("kind", MESHES[:2])
async def test_a_stage_waits_while_the_next_one_is_behind_and_loses_nothing(
    kind: str, request: pytest.FixtureRequest
) -> None:
    topology = graph(lines={"stream": "lines", "lag_max": 20})
    gate = Gate("*")
    async with opened(kind, request) as mesh:
        counting: Any = CountsLooks(mesh)
        one = worker(counting, topology, gate)
        publish = Publisher(mesh, topology.streams["signals"])
        async with running(one):
            await publish(said(100))
            await eventually(lambda: one.troubles, saying="it is told why")
            assert "is full" in one.troubles[0]
            assert "wait for ask, which allows 20" in one.troubles[0]
            passed_on = await lag(mesh, topology, "ask")
            await publish(said(100, after=100))
            looks = counting.looks
            await eventually(lambda: counting.looks > looks + 2, saying="it looks again")
            assert await lag(mesh, topology, "ask") == passed_on <= 100
            assert await lag(mesh, topology, "pass-on") >= 100
            gate.open()
            await eventually(lambda: idle(mesh, topology), saying="everything is done")
            await eventually(lambda: not one.troubles, saying="nothing is full any more")
        findings = [event.payload for event in await events(mesh, topology, "findings")]

    assert sorted(finding.subject for finding in findings) == sorted(f"line {n} asked 1 time(s)" for n in range(200))


async def test_a_stage_that_waits_for_the_next_one_is_no_stall(request: pytest.FixtureRequest) -> None:
    topology = graph(lines={"stream": "lines", "lag_max": 20})
    async with opened("memory", request) as mesh:
        one = Worker(mesh, topology, {}, name="one", stages=["pass-on"], stalled_s=0.05)
        publish = Publisher(mesh, topology.streams["signals"])
        async with running(one):
            await publish(said(60))
            await eventually(lambda: one.troubles, saying="nobody runs the next stage")
            for n in range(3):
                await publish(said(10, after=100 + 10 * n))
                await passes(2 * LOOK_S)
            assert one.counts.stalled == 0


@asynccontextmanager
async def full_stream(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Mesh, Topology, Publisher]]:
    """Ten events may wait for `pass-on` in a partition, and a hundred do."""
    topology = graph(signals={"stream": "signals", "lag_max": 10})
    async with opened(kind, request) as mesh:
        await Publisher(mesh, topology.streams["signals"])(said(100))
        yield mesh, topology, Publisher(mesh, topology.streams["signals"], BackPressure(mesh, topology, {"signals"}))


@pytest.mark.parametrize("kind", MESHES[:2])
async def test_a_full_stream_is_not_published_to_until_its_slowest_reader_has_read(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with full_stream(kind, request) as (mesh, topology, publish):
        with pytest.raises(StreamFullError, match=r"events of partition . wait for pass-on, which allows 10"):
            await publish(said(1, after=100))
        assert publish.trouble
        async with running(worker(mesh, topology)):

            async def taken() -> bool:
                try:
                    return await publish(said(1, after=100)) == 1
                except StreamFullError:
                    return False

            await eventually(taken, saying="there is room again")
        assert publish.trouble == ""


async def test_the_journal_keeps_what_a_full_stream_does_not_take(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with full_stream("memory", request) as (mesh, topology, publish):
        journal = Journal(tmp_path / "journal", bytes_max=1_000_000, age_max_s=3600)
        sources = JournaledPublisher(publish, journal)
        draining = asyncio.create_task(sources.run())
        assert await sources.of("door", Keeping("refuse"))(said(50, after=100)) == 50, "it is durable"
        assert "the journal keeps 50 events" in sources.trouble
        async with running(worker(mesh, topology)):
            await asyncio.wait_for(sources.caught_up(), 10)
            await eventually(lambda: idle(mesh, topology), saying="everything is done")
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await sources.close()
        findings = [event.payload.subject for event in await events(mesh, topology, "findings")]
    assert sorted(findings) == sorted(f"line {n} asked 1 time(s)" for n in range(150))


async def test_nobody_is_asked_how_much_waits_where_there_is_no_limit(request: pytest.FixtureRequest) -> None:
    async with opened("memory", request) as mesh:
        counting: Any = CountsLooks(mesh)
        plain = graph()
        await Pressure(counting, plain, plain.stages).look([], 5.0)
        await BackPressure(counting, plain, {"signals", "lines"}).look(5.0)
        elsewhere = graph(signals={"stream": "signals", "lag_max": 10})
        await BackPressure(counting, elsewhere, {"lines"}).look(5.0)
        assert counting.looks == 0
        assert Pressure(counting, plain, plain.stages).look_at_s == float("inf")

        limited = BackPressure(counting, elsewhere, {"signals"})
        for now_s in (5.0, 5.0 + LOOK_S / 2, 5.0 + LOOK_S, 5.0 + LOOK_S * 1.5):
            await limited.look(now_s)
        assert counting.looks == 2


@pytest.mark.parametrize(("settings", "at_once"), [({}, 8), ({"questions_max": 2}, 2)])
async def test_no_more_questions_of_a_stage_are_put_at_once_than_it_allows(
    settings: dict[str, int], at_once: int, request: pytest.FixtureRequest
) -> None:
    topology, gate = asking(**settings), Gate("*")
    async with opened("memory", request) as mesh:
        async with running(worker(mesh, topology, gate)):
            await Publisher(mesh, topology.streams["signals"])([line(n, f"s{n}", n) for n in range(8)])
            await eventually(lambda: len(gate.asked) >= at_once, saying="they are asked")
            gate.open()
            await eventually(lambda: idle(mesh, topology), saying="all are answered")
        assert len(await events(mesh, topology, "findings")) == 8
    assert gate.at_once == at_once
    assert set(gate.asked.values()) == {1}


def test_a_partition_holds_no_more_records_than_its_stage_allows() -> None:
    bench = Bench(CarriesOn, pending_max=50)
    bench.offer(line(0, "slow", 0))
    bench.work()
    offered = 1
    while bench.task.room:
        bench.offer(*(sample(n, "quick", n) for n in range(offered, offered + 10)))
        bench.work()
        offered += 10

    assert 50 <= offered <= 60
