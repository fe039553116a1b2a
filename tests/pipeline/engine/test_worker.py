"""A worker on a real Redis: what it processes, shares, holds up, gives up and gives back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.inputs import inputs_of
from pipeline.engine.keys import Keys
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import AGENTS, Echo, line, sample, topology
from tests.pipeline.engine.relay import relayed
from tests.pipeline.engine.stages import Picky, topology_of
from tests.pipeline.engine.working import events, idle, publish, running, worker
from tests.polling import eventually
from topology.agent import World
from topology.event import Event
from topology.payloads import AnomalyDetected, MetricSampled
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

pytestmark = pytest.mark.servers


async def test_a_topology_is_run_to_the_end(mesh: RedisMesh, redis: Any) -> None:
    graph = topology()
    one = worker(mesh, graph)
    async with running(one):
        for n in range(30):
            await publish(mesh, graph, [sample(n, f"s{n % 5}", n), line(n, f"s{n % 5}", n)])
        await eventually(lambda: idle(mesh, graph), saying="everything is committed")
        numbered = await events(mesh, graph, "numbered")

    assert sum(e.payload.kind == "answer" for e in numbered) == 30
    assert len({e.id for e in numbered}) == len(numbered)
    assert one.counts.restored == one.counts.fenced == 0
    groups = {
        (stage.id, stream, partition): group["lag"]
        for stage in graph.stages
        for partition in range(3)
        for stream, _ in inputs_of(stage, partition)
        for group in await redis.xinfo_groups(Keys("t").partition((stream, partition)))
        if group["name"].decode() == stage.id
    }
    assert set(groups.values()) == {0}


async def test_two_workers_share_and_the_one_that_leaves_hands_over(mesh: RedisMesh) -> None:
    graph = topology()
    one, two = worker(mesh, graph, name="one"), worker(mesh, graph, name="two")

    def all_owned() -> bool:
        return len(one.owned) + len(two.owned) == 9 and not set(one.owned) & set(two.owned)

    async with running(one):
        await eventually(lambda: len(one.owned) == 9, saying="the first has everything")
        async with running(two):
            await eventually(
                lambda: two.owned and all_owned(), saying="they share", seen=lambda: (one.owned, two.owned)
            )
            await publish(mesh, graph, [line(n, f"s{n}", n) for n in range(40)])
        left = time.monotonic()
        await eventually(lambda: len(one.owned) == 9, saying="the one that stays has everything")
        assert time.monotonic() - left < 4, "nobody waits for a lease that was given back"
        await publish(mesh, graph, [line(n, f"s{n}", n) for n in range(40, 80)])
        await eventually(lambda: idle(mesh, graph), saying="everything is committed")

    numbered = await events(mesh, graph, "numbered")
    assert len(numbered) == 80
    assert len({e.id for e in numbered}) == 80
    assert one.counts.fenced == two.counts.fenced == 0


async def is_(found: Any, expected: object) -> bool:
    return bool(await found() == expected)


async def test_a_stage_that_halts_has_done_what_came_before_and_others_go_on(mesh: RedisMesh) -> None:
    graph = topology(on_poison="halt", partitions=1)
    one = worker(mesh, graph)
    signals = [sample(1, "a", 1), sample(2, "a", 12), sample(3, "a", 13, "poison"), sample(4, "a", 30)]
    async with running(one):
        await publish(mesh, graph, signals)
        await eventually(lambda: one.halted, saying="it halts")
        await publish(mesh, graph, [line(1, "a", 1)])

        async def kinds() -> list[str]:
            return sorted(e.payload.kind for e in await events(mesh, graph, "numbered"))

        await eventually(lambda: is_(kinds, ["answer", "count"]), saying="what came before, and others", seen=kinds)
        assert "never be counted" in one.halted["count-windows", 0]
        assert ("count-windows", 0) not in one.owned
    assert [lag.waiting for lag in await mesh.lags([("count-windows", 0, ("signals", 0))])] == [3]


async def test_stop_does_not_wait_for_something_to_come(mesh: RedisMesh, redis: Any) -> None:
    one = worker(mesh, topology())
    async with running(one):
        await eventually(lambda: len(one.owned) == 9, saying="it owns everything")

        async def reading() -> bool:
            return bool((await redis.info("clients"))["blocked_clients"])

        await eventually(reading, saying="its read is blocked")
        began = time.monotonic()
    assert time.monotonic() - began < 4
    two = worker(mesh, topology(), name="two")
    async with running(two):
        began = time.monotonic()
        await eventually(lambda: len(two.owned) == 9, saying="the leases were given back")
        assert time.monotonic() - began < 4, "nobody waits for a lease that was given back"


async def test_a_short_lease_is_kept_while_nothing_comes(mesh: RedisMesh) -> None:
    one = worker(mesh, topology(), lease_s=0.4)
    async with running(one):
        await eventually(lambda: len(one.owned) == 9, saying="it owns everything")
        until = time.monotonic() + 1.5

        def still_owned() -> bool:
            assert len(one.owned) == 9
            return time.monotonic() > until

        await eventually(still_owned, saying="several lease times pass")
    assert one.counts.fenced == 0


@pytest.mark.parametrize("command", [b"EVALSHA", b"XREAD", b"HGETALL"], ids=["commit or lease", "read", "restore"])
async def test_a_connection_that_breaks_in_the_middle_costs_nothing(
    redis_url: str, mesh: RedisMesh, state_dir: Path, command: bytes
) -> None:
    graph, echo = topology(), Echo()
    async with relayed(redis_url, state_dir) as (cable, url):
        broken = RedisMesh.connect(url, "t")
        one = worker(broken, graph, echo)
        broke = 0
        running_worker = asyncio.create_task(one.run())
        for n in range(60):
            lost = cable.lost
            if n % 5 == 0:
                cable.lose_the_answer_to(command)
            await publish(mesh, graph, [sample(n, f"s{n % 7}", n), line(n, f"s{n % 7}", n, level="warning")])
            if n % 5 == 0 and (n == 0 or command != b"HGETALL"):  # a restore comes after another failure only
                await eventually(lambda lost=lost: cable.lost > lost, saying="the connection breaks")  # type: ignore[misc]
                await asyncio.wait({running_worker}, timeout=0.5)  # a worker survives when it was an answer's record
            if running_worker.done():
                with pytest.raises(MeshUnavailableError):
                    running_worker.result()
                broke += 1
                running_worker = asyncio.create_task(one.run())
        cable.lose_the_answer_to(b"")

        async def done() -> bool:
            nonlocal running_worker, broke
            if running_worker.done():
                broke += 1
                running_worker = asyncio.create_task(one.run())
            return await idle(mesh, graph)

        await eventually(done, saying="everything is committed")
        one.stop()
        await running_worker
        await broken.close()

    assert broke, "the connection did break"
    numbered = await events(mesh, graph, "numbered")
    assert sum(e.payload.kind == "answer" for e in numbered) == 60
    assert len({e.id for e in numbered}) == len(numbered)
    by_service: dict[str, list[float]] = {}
    for said in numbered:
        by_service.setdefault(said.payload.service, []).append(said.payload.score)
    assert all(scores == list(range(1, len(scores) + 1)) for scores in by_service.values())


async def test_a_task_that_holds_half_an_event_is_never_committed(
    redis_url: str, mesh: RedisMesh, state_dir: Path
) -> None:
    graph = topology_of(Picky, on_poison="skip")
    async with relayed(redis_url, state_dir) as (cable, url):
        broken = RedisMesh.connect(url, "t")
        one = worker(broken, graph)
        first_run = asyncio.create_task(one.run())
        await eventually(lambda: one.owned, saying="it owns the partition")
        cable.lose_the_answer_to(b"HGETALL")  # the restore that the poison makes necessary
        await publish(mesh, graph, [sample(n, "a", n, "half" if n == 2 else "good") for n in range(4)])
        with pytest.raises(MeshUnavailableError):
            await first_run
        async with running(one):
            await eventually(lambda: idle(mesh, graph), saying="everything is committed")
        await broken.close()
    assert [e.payload.value for e in await events(mesh, graph, "findings")] == [1, 2, 3]
    assert len(await events(mesh, graph, "dead-letters")) == 1


async def test_a_stage_that_cannot_read_its_state_halts_alone(mesh: RedisMesh, redis: Any) -> None:
    graph = topology(partitions=1)
    await redis.hset(Keys("t").owned("ask-world", 0, "state"), "answered/a", "1 not a number")
    one = worker(mesh, graph)
    async with running(one):
        await publish(mesh, graph, [sample(1, "a", 1), sample(2, "a", 12)])

        async def counted() -> bool:
            return len(await events(mesh, graph, "numbered")) == 1

        await eventually(counted, saying="the other stages work")
        assert "cannot begin with what it had stored" in one.halted["ask-world", 0]
    assert await redis.exists(Keys("t").owned("ask-world", 0, "lease")) == 0


async def test_steps_that_take_longer_than_the_lease_do_not_cost_it(mesh: RedisMesh) -> None:
    class Slow(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            time.sleep(0.002)
            return super().process(event, world)

    graph = topology_of(Slow)
    one = worker(mesh, graph, lease_s=1.0)
    await publish(mesh, graph, [sample(n, f"s{n}", n) for n in range(1_000)])
    async with running(one):
        await eventually(lambda: idle(mesh, graph), saying="everything is committed", within_s=20)
    assert one.counts.fenced == 0
    assert len(await events(mesh, graph, "findings")) == 1_000


async def test_a_new_stage_that_has_much_to_catch_up_with_does_not_hold_up_the_others(mesh: RedisMesh) -> None:
    class Slow(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            time.sleep(0.001)
            return super().process(event, world)

    signals = StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=1)
    findings = StreamSpec(carries=("AnomalyDetected",), partitions=1)
    stages = [
        StageSpec(id=name, agent=f"stages:{name}", consumes=("signals",), emits=("findings",))
        for name in ("quick", "slow")
    ]
    agents: dict[str, object] = {"stages:quick": AGENTS["counting:CountWindows"], "stages:slow": Slow}
    graph = resolve(
        TopologySpec(name="two", streams={"signals": signals, "findings": findings}, stages=tuple(stages)), agents.get
    )
    for first in range(0, 10_000, 1_000):
        await publish(mesh, graph, [sample(n, "a", 1) for n in range(first, first + 1_000)])
    async with running(Worker(mesh, graph, {}, name="one", stages=["quick"])):
        read = [("quick", 0, ("signals", 0))]

        async def done() -> bool:
            return not (await mesh.lags(read))[0].waiting

        await eventually(done, saying="the first stage has read everything")
    async with running(Worker(mesh, graph, {}, name="one")):
        await publish(mesh, graph, [sample(10_000, "a", 20)])

        async def counted() -> bool:
            return any(e.payload.value == 10_000 for e in await events(mesh, graph, "findings"))

        await eventually(counted, saying="the first stage closes its window", within_s=2)
