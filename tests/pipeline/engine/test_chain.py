"""Workers that run several stages as one task, on a real server: what is there, what is not, and what must not change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import orjson
import pytest
from redis.asyncio import Redis

from pipeline.engine.dead_letters import DeadLetters, replay
from pipeline.engine.drive import Driver
from pipeline.engine.inputs import partitions_of
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh, PartitionsChangedError
from pipeline.engine.pressure import Pressure
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.replaying import PLACE as LETTERS
from pipeline.engine.restoring import restored_task
from pipeline.engine.retention import Janitor
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import Memory
from pipeline.engine.worker import Worker
from tests.contracts.chained import chain
from tests.contracts.counting import Forward, sample
from tests.pipeline.engine.working import events, idle, publish, running
from tests.polling import eventually
from topology.graph import Edge, Stage, Topology


def worker(mesh: Any, graph: Topology, *stages: str, name: str = "one") -> Worker:
    return Worker(mesh, graph, {}, name=name, stages=stages or None)


async def worked(mesh: RedisMesh, graph: Topology, count: int = 20) -> None:
    """Let a worker process so many samples."""
    async with running(worker(mesh, graph)):
        await publish(mesh, graph, [sample(n, "abcd"[n % 4], n, "mm") for n in range(count)])
        await eventually(lambda: idle(mesh, graph), saying="everything is processed")
        await eventually(lambda: _said(mesh, graph, 2 * count), saying="everything comes out")


async def _said(mesh: RedisMesh, graph: Topology, count: int) -> bool:
    numbered = await events(mesh, graph, "numbered")
    return len([event for event in numbered if event.payload.kind == "seen"]) == count


@pytest.mark.servers
async def test_nothing_of_what_is_passed_on_in_memory_is_on_the_server(mesh: RedisMesh, redis: Redis) -> None:
    graph = chain(stored=False)
    await worked(mesh, graph)
    names = {key.decode() async for key in redis.scan_iter("*")}
    assert not [name for name in names if "samples" in name or "counted" in name]
    consumers = {group["name"] for name in names if "signals" in name and await redis.type(name) == b"stream"
                 for group in await redis.xinfo_groups(name)}  # fmt: skip
    assert consumers == {b"split"}
    assert await Janitor(mesh, graph, clock_ms=lambda: time.time_ns() // 1_000_000 + 10**9).sweep() >= 18
    names = {key.decode() async for key in redis.scan_iter("*")}
    assert not [name for name in names if "samples" in name or "counted" in name]


@pytest.mark.servers
@pytest.mark.parametrize("before", [True, False])
async def test_a_stage_may_not_move_into_another_task_or_out_of_it(mesh: RedisMesh, before: bool) -> None:
    await worked(mesh, chain(stored=before))
    other = worker(mesh, chain(stored=not before), name="other")
    with pytest.raises(PartitionsChangedError, match=r"stage sum, stage forward in another task.*Put `stored`.*back"):
        await asyncio.wait_for(other.run(), 10)
    assert other.counts.commits == 0
    await worked_again(mesh, chain(stored=before))


async def worked_again(mesh: RedisMesh, graph: Topology) -> None:
    async with running(worker(mesh, graph)):
        await publish(mesh, graph, [sample(100, "a", 100, "m")])
        await eventually(lambda: _said(mesh, graph, 41), saying="with the field put back it goes on")


async def test_a_stage_may_not_follow_another_head_either() -> None:
    mesh = MemoryMesh(lambda: 0)
    graph = chain(stored=False)
    await mesh.declare(partitions_of(graph))
    head = graph.tasks[0]
    renamed = replace(head, spec=head.spec.model_copy(update={"id": "cut"}))
    with pytest.raises(PartitionsChangedError, match="stage sum, stage forward in another task"):
        await mesh.declare(partitions_of(replace(graph, stages=(renamed, *graph.stages[1:]))))


@pytest.mark.servers
async def test_who_runs_one_stage_of_a_task_runs_all_of_them(mesh: RedisMesh) -> None:
    graph = chain(stored=False)
    one = worker(mesh, graph, "forward")
    async with running(one):
        await publish(mesh, graph, [sample(1, "a", 1, "mm")])
        await eventually(lambda: _said(mesh, graph, 2), saying="the first stage runs too")
        assert one.owned == [("split", 0), ("split", 1)]


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """How often agents are set up and put away."""
    counts: dict[str, int] = {"up": 0, "away": 0}
    Guest.counts = counts
    yield counts


class Guest(Forward):
    """Says when it is set up and put away."""

    counts: ClassVar[dict[str, int]]

    async def initialize(self) -> None:
        self.counts["up"] += 1

    async def shutdown(self) -> None:
        self.counts["away"] += 1


@pytest.mark.servers
async def test_every_agent_of_a_task_is_set_up_and_put_away(mesh: RedisMesh) -> None:
    graph = chain(stored=False)
    split, total, forward = graph.stages
    forward = replace(forward, agent_class=Guest)
    total = replace(total, next=forward)
    graph = replace(graph, stages=(replace(split, next=total), total, forward))
    with counted() as counts:
        one = worker(mesh, graph)
        async with running(one):
            both = [("split", 0), ("split", 1)]
            await eventually(lambda: one.owned == both and not one.restoring, saying="both partitions have begun")
        assert counts == {"up": 2, "away": 2}


async def test_a_task_waits_when_what_its_last_stage_writes_is_full() -> None:
    graph = chain(stored=False, partitions=1)
    reader = replace(
        graph.stages[2], inputs=(graph.streams["numbered"],), routes={}, edges={"numbered": Edge(lag_max=1)}
    )
    reader = replace(reader, spec=reader.spec.model_copy(update={"id": "slow"}))
    graph = replace(graph, stages=(*graph.stages, reader))
    mesh = MemoryMesh(lambda: 0)
    await publish(mesh, graph, [sample(n, "a", n, "m") for n in range(5)])
    pressure = Pressure(mesh, graph, graph.tasks[:1])
    assert not pressure.holds(graph.stages[0])
    task = await task_of(mesh, graph.stages[0])
    task.offer(await mesh.read(task.positions, count=100, wait_s=0))
    task.step()
    lease = await mesh.claim("split", 0, "driver", 60)
    assert lease is not None
    await mesh.commit([(lease, task.take_commit())])
    await pressure.look((), 1.0)
    assert pressure.holds(graph.stages[0])


async def task_of(mesh: MemoryMesh, stage: Stage) -> PartitionTask:
    lease = await mesh.claim(stage.id, 0, "driver", 60)
    assert lease is not None
    return await restored_task(mesh, stage, lease, Memory())


async def test_a_large_state_of_several_stages_is_restored_in_parts() -> None:
    graph = chain(stored=False, partitions=1)
    mesh = MemoryMesh(lambda: 0, rows_per_part=3)
    await publish(mesh, graph, [sample(n, f"k{n}", n % 5, "m") for n in range(20)])
    task = await task_of(mesh, graph.stages[0])
    task.offer(await mesh.read(task.positions, count=100, wait_s=0))
    task.step()
    lease = await mesh.claim("split", 0, "driver", 60)
    assert lease is not None
    await mesh.commit([(lease, task.take_commit())])

    await publish(mesh, graph, [sample(100 + n, f"k{n}", n % 5, "m") for n in range(20)])
    again = await task_of(mesh, graph.stages[0])
    again.offer(await mesh.read(again.positions, count=100, wait_s=0))
    again.step()
    said = [orjson.loads(output.value)["payload"] for output in again.take_commit().outputs]
    assert [(each["service"], each["value"], each["score"]) for each in said] == [
        (f"k{n}", 2.0, 2.0) for n in range(20)
    ]


@pytest.mark.servers
async def test_a_worker_replays_letters_of_a_stage_within_a_task_while_the_task_rests(mesh: RedisMesh) -> None:
    old, new = (chain(stored=False, mended=mended) for mended in (False, True))
    async with running(worker(mesh, old)):
        await publish(mesh, old, [sample(n, "a", n, metric) for n, metric in enumerate(("x", "poison:before", "y"))])
        await eventually(lambda: idle(mesh, old), saying="everything is processed")
        await eventually(lambda: _letters(mesh, 2), saying="the key is parked")
    async with running(worker(mesh, new, name="next")):
        known = await _open(mesh)
        await mesh.publish(replay(known, new, known.letters, now=datetime(2026, 1, 1, tzinfo=UTC), by="me").requests)
        await publish(mesh, new, [sample(n, "a", n, "z") for n in range(10, 20)])
        await eventually(lambda: _letters(mesh, 0), saying="the letters are processed")
        await eventually(lambda: _said(mesh, new, 13), saying="what came meanwhile is processed")
    seen = [event.payload.subject for event in await events(mesh, new, "numbered") if event.payload.kind == "seen"]
    assert seen == ["x", "mended:before", "y", *"z" * 10]


async def test_a_task_that_rests_while_letters_are_replayed_reads_nothing_else_and_commits_how_far_it_has_come() -> (
    None
):
    graph = chain(stored=False, partitions=1)
    mesh = MemoryMesh(lambda: 5_000)
    run = Driver(graph, mesh=mesh)
    await run.publish("signals", [sample(1, "b", 1, "poison-split"), sample(2, "a", 1, "poison:before")])
    await run.run_until_idle()
    known = await _open(mesh)
    of_sum = [each for each in known.letters if each.payload.stage == "sum"]
    assert [each.payload.offset for each in of_sum] == ["5000-0"], "it says when that came of which it was concluded"
    await mesh.publish(replay(known, graph, of_sum, now=datetime(2026, 1, 1, tzinfo=UTC), by="me").requests)
    await run.step()

    task = await task_of(mesh, chain(stored=False, partitions=1, mended=True).stages[0])
    assert list(task.positions) == [LETTERS]
    before = task.moved
    [other] = await mesh.read(task.positions, count=1, wait_s=0)
    task.offer([other])  # of the first stage, which nobody has asked for
    task.step()
    assert (before, task.moved, task.has_news) == (False, True, False)
    task.offer(await mesh.read(task.positions, count=10, wait_s=0))
    task.step()
    assert task.has_news
    assert {output.stream for output in task.take_commit().outputs} == {"numbered", "dead-letters"}


async def _open(mesh: Mesh) -> DeadLetters:
    known = DeadLetters()
    await known.follow(mesh)
    return known


async def _letters(mesh: RedisMesh, count: int) -> bool:
    return len((await _open(mesh)).letters) == count
