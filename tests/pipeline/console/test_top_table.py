"""How a deployment stands, read from its mesh, and the tables that show it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
from rich.console import Console, RenderableType

from pipeline.console.overview import Overseer, Overview, PartitionLine, StageLine, State, WorkerLine
from pipeline.console.top_table import partitions_table, stages_table
from pipeline.engine.outputs import LATE
from pipeline.engine.oversight import Report
from pipeline.engine.record import BEGINNING, Commit, Output
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import topology
from topology.ids import derived_id


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, "t")
    yield mesh
    await mesh.close()


def output(number: int, stream: str = "signals", partition: int = 1) -> Output:
    return Output(stream, partition, "key", "metric.sampled", str(derived_id(stream, number)), b"{}")


async def claim(mesh: RedisMesh, partition: int, worker: str) -> None:
    assert await mesh.claim("count-windows", partition, worker, 30) is not None


def states(overview: Overview, stage: str) -> list[tuple[State, str]]:
    return [(line.state, line.why) for each in overview.stages if each.stage == stage for line in each.partitions]


@pytest.mark.servers
async def test_the_state_of_a_partition_is_what_its_owner_says_of_it(mesh: RedisMesh) -> None:
    said = Report(stalled={"count-windows/1": "has not moved"}, restoring={"count-windows/2": "5 of 9 rows"})
    await mesh.join("one", 30)
    await mesh.oversight.report("one", said, 30)
    overseer = Overseer(mesh, topology())
    for partition in range(3):
        await claim(mesh, partition, "one")

    overview = await overseer.look()

    assert states(overview, "count-windows") == [
        ("runs", ""),
        ("stalled", "has not moved"),
        ("restoring", "5 of 9 rows"),
    ]
    assert states(overview, "forward") == [("unowned", "")] * 3


@pytest.mark.servers
async def test_what_one_worker_halted_is_halted_until_somebody_has_it(mesh: RedisMesh) -> None:
    await mesh.join("one", 30)
    await mesh.oversight.report("one", Report(halted={"count-windows/0": "poisoned", "forward/0": "poisoned"}), 30)
    await claim(mesh, 0, "two")
    overseer = Overseer(mesh, topology())

    overview = await overseer.look()

    assert states(overview, "count-windows")[0] == ("runs", "")
    assert states(overview, "forward")[0] == ("halted", "poisoned")
    assert [(line.worker, line.partitions) for line in overview.workers] == [("one", 0), ("two", 1)]


@pytest.mark.servers
async def test_rates_and_late_entries_are_those_of_the_stage_that_caused_them(mesh: RedisMesh) -> None:
    await mesh.publish([output(number) for number in range(9)])
    lease = await mesh.claim("count-windows", 1, "one", 30)
    assert lease is not None
    await mesh.restore(lease, [("signals", 1)])
    records = await mesh.read({("signals", 1): BEGINNING}, count=9, wait_s=0)
    overseer = Overseer(mesh, topology())
    before = await overseer.look()
    late = [output(1, LATE.name, 0), output(2, LATE.name, 0), output(3, "findings")]
    done = Commit("count-windows", 1, {("signals", 1): records[5].offset}, {("signals", 1): 6}, outputs=late)
    await mesh.commit([(lease, done)])

    after = await overseer.look()

    line = after.stages[0].partitions[1]
    assert before.stages[0].in_per_s is before.over_s is None
    assert after.over_s is not None
    assert line.in_per_s is not None
    assert line.out_per_s is not None
    assert (round(line.in_per_s * after.over_s), round(line.out_per_s * after.over_s)) == (6, 3)
    assert (after.stages[0].late, after.stages[0].lag, after.stages[1].late, after.stages[1].lag) == (2, 3, 0, 9)


def line(partition: int, state: State = "runs", *, lag: int = 0, why: str = "", stage: str = "count") -> PartitionLine:
    return PartitionLine(
        stage, partition, "one" if state == "runs" else None, state, why, read=0, outputs=0, late=1, dead_letters=0,
        lags=[(("signals", partition), lag)], in_per_s=1234.5, out_per_s=0.25,
        evicted={"counts": {"keys_max": 7, "retain": 1}},
    )  # fmt: skip


def shown(table: RenderableType) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=120).print(table)
    return [row.rstrip() for row in out.getvalue().splitlines()]


def test_a_stage_is_one_line_with_its_sums_and_what_is_wrong_first() -> None:
    stage = StageLine("count", [line(0), line(1, lag=1_500), line(2, "halted", lag=20, why="poisoned")])
    sink = StageLine("~sink-knowledge", [line(0, stage="~sink-knowledge")])

    rows = shown(stages_table(Overview(1.0, [stage, sink], [WorkerLine("one", 3, ["the store is away"])])))

    assert rows[0].split() == ["stage", "partitions", "in/s", "out/s", "lag", "late", "evicted", "dead", "state"]
    assert rows[1].split() == ["count", "3", "3,704", "0.8", "1,520", "3", "24", "0", "1", "halted", "one:", "2"]
    assert rows[2].startswith("sink knowledge")
    assert rows[-2:] == ["one: 3 partitions", "  the store is away"]


def test_of_many_partitions_those_that_need_somebody_come_first_and_the_rest_is_counted() -> None:
    lines = [line(number, lag=number) for number in range(8)] + [line(9, "stalled", why="has not moved")]

    rows = shown(partitions_table(Overview(1.0, [StageLine("count", lines)], []), 3))

    assert [row.split()[1] for row in rows[1:4]] == ["9", "7", "6"]
    assert rows[1].endswith("stalled has not moved")
    assert rows[4] == "… and 6 more"
    assert rows[-1] == "no worker is alive"
