"""A large state comes back in parts, and everything else goes on meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from pipeline.bench.restore import leave_behind
from pipeline.bench.rig import output_of
from pipeline.bench.stages import OUTPUT, STAGE, topology
from pipeline.bench.workload import Workload
from pipeline.engine import restoring
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Lease, Mesh
from pipeline.engine.record import BEGINNING, Commit
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.restoring import Restoring, restored_task
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import HaltedError, Memory
from pipeline.engine.worker import Worker
from tests.pipeline.engine.working import running
from tests.polling import eventually

KEYS = 50_000
GRAPH = topology("number", keys=1, partitions=2)
[NUMBER] = GRAPH.stages


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, namespace=f"t{uuid4().hex[:8]}")
    yield mesh
    await mesh.close()


async def owner(mesh: Mesh) -> Lease:
    lease = await mesh.claim(STAGE, 0, "one", 60.0)
    assert lease is not None
    return lease


async def restored_beside(mesh: Mesh, progress: Restoring) -> tuple[PartitionTask, list[int]]:
    """The task, and what somebody else on the same loop saw of its progress whenever it was their turn."""
    seen: list[int] = []
    restore = asyncio.create_task(restored_task(mesh, NUMBER, await owner(mesh), Memory(), progress))
    while not restore.done():
        seen.append(progress.rows)
        await asyncio.sleep(0)
    return await restore, seen


def keys_in(task: PartitionTask) -> list[str]:
    found: list[str] = task.agent.tables["seen"].keys()  # type: ignore[attr-defined]
    return found


@pytest.mark.servers
async def test_others_have_their_turn_between_the_parts_of_a_large_state(mesh: RedisMesh) -> None:
    keys = [f"{n:09}" for n in range(KEYS)]
    await leave_behind(mesh, STAGE, 0, "seen", keys)
    progress = Restoring()

    task, seen = await restored_beside(mesh, progress)

    assert keys_in(task) == keys
    assert len(set(seen)) > 10, "the loop was given back at least so many times, each time a part further"
    assert str(progress) == "50,000 of 50,000 rows"


async def test_a_mesh_that_answers_at_once_does_not_keep_others_from_their_turn() -> None:
    mesh = MemoryMesh(lambda: 1_000, rows_per_part=10)
    await leave_behind(mesh, STAGE, 0, "seen", [f"{n:03}" for n in range(200)])

    task, seen = await restored_beside(mesh, Restoring())

    assert len(keys_in(task)) == 200
    assert len(set(seen)) >= 20


async def test_a_long_restore_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restoring, "_TELL_EVERY_S", 0.0)
    caplog.set_level(logging.INFO, logger=restoring.__name__)
    mesh = MemoryMesh(lambda: 1_000, rows_per_part=10)
    await leave_behind(mesh, STAGE, 0, "seen", [f"{n:03}" for n in range(25)])

    await restored_beside(mesh, Restoring())

    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "measured/0 is being restored: 20 of 25 rows"
    assert told[-1].startswith("measured/0 is restored: 25 rows in ")


async def test_a_row_that_cannot_be_read_halts_the_stage_also_when_it_comes_late() -> None:
    mesh = MemoryMesh(lambda: 1_000, rows_per_part=10)
    await leave_behind(mesh, STAGE, 0, "seen", [f"{n:03}" for n in range(25)])
    await mesh.commit([(await owner(mesh), Commit(STAGE, 0, {}, state={"seen/last": b"of another release"}))])

    with pytest.raises(HaltedError, match="measured/0 cannot begin with what it had stored"):
        await restored_beside(mesh, Restoring())


@pytest.mark.servers
async def test_a_worker_goes_on_with_its_other_partitions_while_it_restores_a_large_one(mesh: RedisMesh) -> None:
    await leave_behind(mesh, STAGE, 0, "seen", [f"{n:09}" for n in range(KEYS)])
    samples = [next(s for s in Workload(100, 10, partitions=2).samples() if s.partition == p) for p in (0, 1)]
    await mesh.publish([output_of(sample) for sample in samples])
    places = {(OUTPUT, 0): BEGINNING, (OUTPUT, 1): BEGINNING}

    async def both_said() -> bool:
        return len(await mesh.read(places, count=10, wait_s=0)) == 2

    async with running(Worker(mesh, GRAPH, {}, name="one")):
        await eventually(both_said, saying="both partitions run", within_s=30)

    of_large, of_other = sorted(await mesh.read(places, count=10, wait_s=0), key=lambda record: record.partition)
    assert of_other.offset < of_large.offset, "what is small does not wait for what is large"
