"""What the janitor forgets, and what it never does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.ports import ExecuteAction
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import ANSWERS, DEAD_LETTERS, LATE
from pipeline.engine.record import BEGINNING, Commit, Place
from pipeline.engine.retention import Janitor
from tests.contracts.counting import Echo, line, sample, topology
from tests.contracts.meshes import MESHES, opened
from tests.polling import eventually
from topology.graph import Topology
from topology.spec import TopologySpec

HOUR_MS = 3_600_000
SIGNALS = ("signals", 0)


@pytest.fixture(params=MESHES)
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    async with opened(request.param, request) as mesh:
        yield mesh


async def length(mesh: Mesh, place: Place = SIGNALS) -> int:
    return len(await mesh.read({place: BEGINNING}, count=10_000, wait_s=0))


def much_later(hours: float) -> int:
    return time.time_ns() // 1_000_000 + int(hours * HOUR_MS)


async def publish(mesh: Mesh, graph: Topology, count: int) -> Driver:
    driver = Driver(graph, {ExecuteAction: Echo()}, mesh=mesh)
    await driver.publish("signals", [sample(n, "a", n) for n in range(count)])
    return driver


async def test_nothing_goes_that_a_stage_has_not_committed(mesh: Mesh) -> None:
    graph = topology(partitions=1)
    driver = await publish(mesh, graph, 10)
    janitor = Janitor(mesh, graph, clock_ms=lambda: much_later(1_000))
    assert await janitor.sweep() == 0

    await driver.run_until_idle()
    assert await janitor.sweep() > 0
    assert await length(mesh) == 1, "the last one that was committed stays"
    assert janitor.trimmed >= 9


async def test_nothing_goes_before_its_time(mesh: Mesh) -> None:
    graph = topology(partitions=1)
    await (await publish(mesh, graph, 10)).run_until_idle()
    assert await Janitor(mesh, graph, clock_ms=lambda: much_later(23.9)).sweep() == 0
    assert await Janitor(mesh, graph, clock_ms=lambda: much_later(24.1)).sweep() > 0


async def test_a_sink_counts_as_a_consumer(mesh: Mesh) -> None:
    graph = topology(partitions=1)
    await (await publish(mesh, graph, 10)).run_until_idle()
    janitor = Janitor(
        mesh, graph, consumers=[("~sink-shelf", [graph.streams["signals"]])], clock_ms=lambda: much_later(1_000)
    )
    await janitor.sweep()
    assert await length(mesh) == 10

    lease = await mesh.claim("~sink-shelf", 0, "one", 30)
    assert lease is not None
    records = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    await mesh.commit([(lease, Commit("~sink-shelf", 0, {SIGNALS: records[5].offset}, {SIGNALS: 6}))])
    await janitor.sweep()
    assert await length(mesh) == 5
    assert (await mesh.restore(lease, [SIGNALS])).offsets[SIGNALS] == records[5].offset


async def test_a_stream_declares_how_long_it_keeps(mesh: Mesh) -> None:
    plain = topology(partitions=1)
    signals = plain.streams["signals"]
    spec = TopologySpec.model_validate(
        {"name": "x", "streams": {"signals": {**signals.spec.model_dump(), "retain": "1h"}}, "stages": []}
    ).streams["signals"]
    graph = replace(plain, streams={**plain.streams, "signals": replace(signals, spec=spec)})
    await (await publish(mesh, graph, 10)).run_until_idle()
    assert await Janitor(mesh, graph, clock_ms=lambda: much_later(0.9)).sweep() == 0
    assert await Janitor(mesh, graph, clock_ms=lambda: much_later(1.1)).sweep() == 9


async def test_a_stage_goes_on_after_a_sweep_as_if_nothing_had_been(mesh: Mesh) -> None:
    graph = topology(partitions=1)
    driver = await publish(mesh, graph, 10)
    await driver.publish("signals", [line(1, "a", 1)])
    await driver.run_until_idle()
    driver.crash()
    await Janitor(mesh, graph, clock_ms=lambda: much_later(1_000)).sweep()
    await driver.publish("signals", [line(2, "a", 2), sample(20, "a", 20), sample(40, "a", 40)])
    await driver.run_until_idle()
    values = [e.payload.value for e in await driver.events("findings") if e.payload.kind == "count"]  # type: ignore[attr-defined]
    assert values == [10.0, 1.0], "what was counted before is in the state, not on the stream"
    assert [lag.waiting for lag in await mesh.lags([("forward", 0, ("findings", 0))])] == [0]


async def test_what_nobody_reads_goes_by_age_and_dead_letters_stay_a_month(mesh: Mesh) -> None:
    graph = topology(partitions=1)
    driver = await publish(mesh, graph, 1)
    await driver.publish("signals", [sample(2, "a", 2, "poison"), line(3, "b", 3)])
    await driver.run_until_idle()
    numbered, letters, answers = ("numbered", 0), (DEAD_LETTERS.name, 0), (ANSWERS.name, 0)
    assert [await length(mesh, place) for place in (numbered, letters, answers)] == [1, 1, 1]
    await Janitor(mesh, graph, clock_ms=lambda: much_later(25)).sweep()
    assert [await length(mesh, place) for place in (numbered, letters, answers)] == [0, 1, 0]
    await Janitor(mesh, graph, clock_ms=lambda: much_later(31 * 24)).sweep()
    assert await length(mesh, letters) == 0
    assert LATE.spec.retain is not None


async def test_it_sweeps_now_and_then(mesh: Mesh) -> None:
    graph = topology(partitions=1)
    await (await publish(mesh, graph, 10)).run_until_idle()
    janitor = Janitor(mesh, graph, every_s=0.01, clock_ms=lambda: much_later(25))
    sweeping = asyncio.create_task(janitor.run())
    await eventually(lambda: janitor.trimmed, saying="it sweeps")
    sweeping.cancel()
    await asyncio.wait({sweeping})


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 5)), max_size=20))
async def test_a_sweep_at_any_moment_loses_nothing(steps: list[tuple[int, int]]) -> None:
    now_ms = 1_000_000
    mesh = MemoryMesh(lambda: now_ms)
    graph = topology(partitions=1)
    driver, janitor = Driver(graph, {ExecuteAction: Echo()}, mesh=mesh), Janitor(mesh, graph, clock_ms=lambda: now_ms)
    number, said = 0, 0
    for sweeps, count in steps:
        await driver.publish("signals", [line(n, f"s{n % 3}", n) for n in range(number, number + count)])
        number += count
        await driver.step(count=2)
        now_ms += 48 * HOUR_MS
        if sweeps:
            said += len(await driver.events("numbered"))
            await janitor.sweep()
            driver.crash()
            said -= len(await driver.events("numbered"))
    await driver.run_until_idle()
    assert said + len(await driver.events("numbered")) == number
