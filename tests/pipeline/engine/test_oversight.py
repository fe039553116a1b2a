"""A deployment seen from outside: positions as Redis' own tools show them, owners, counts, and reports of workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from pipeline.engine.mesh import Lease
from pipeline.engine.outputs import LATE
from pipeline.engine.oversight import Position, Report, Tally, keep_reporting
from pipeline.engine.record import BEGINNING, Commit, Output, Place
from pipeline.engine.redis_mesh import RedisMesh
from tests.polling import eventually
from topology.ids import derived_id

pytestmark = pytest.mark.servers

SIGNALS: Place = ("signals", 3)


def output(number: int, stream: str = "signals", partition: int = 3) -> Output:
    return Output(stream, partition, "key", "metric.sampled", str(derived_id(stream, number)), b"{}")


async def claimed(mesh: RedisMesh, stage: str = "count") -> Lease:
    lease = await mesh.claim(stage, 3, "one", 30)
    assert lease is not None
    await mesh.restore(lease, [SIGNALS])
    return lease


async def pass_by(mesh: RedisMesh, lease: Lease, count: int, *outputs: Output) -> None:
    """Commit that so many records more are done."""
    committed = (await mesh.committed([(lease.stage, 3, SIGNALS)]))[0]
    records = await mesh.read({SIGNALS: committed}, count=count, wait_s=0)
    commit = Commit(lease.stage, 3, {SIGNALS: records[-1].offset}, {SIGNALS: count}, outputs=list(outputs))
    assert await mesh.commit([(lease, commit)]) == [None]


async def shown(mesh: RedisMesh, redis: Any) -> list[Position]:
    groups = await redis.xinfo_groups(mesh.keys.partition(SIGNALS))
    return [Position(group["name"].decode(), SIGNALS, group["entries-read"], group["lag"]) for group in groups]


async def test_a_stage_is_seen_from_its_first_claim_on_with_all_that_waits_for_it(mesh: RedisMesh, redis: Any) -> None:
    await mesh.publish([output(n) for n in range(10)])
    await mesh.trim(SIGNALS, (await mesh.read({SIGNALS: BEGINNING}, count=4, wait_s=0))[3].offset)

    await claimed(mesh)

    assert await shown(mesh, redis) == await mesh.oversight.positions([SIGNALS]) == [Position("count", SIGNALS, 3, 7)]


async def test_a_stage_that_is_claimed_before_anything_was_said_waits_for_what_comes(
    mesh: RedisMesh, redis: Any
) -> None:
    await claimed(mesh)
    await mesh.publish([output(n) for n in range(10)])

    assert await shown(mesh, redis) == await mesh.oversight.positions([SIGNALS]) == [Position("count", SIGNALS, 0, 10)]


async def test_being_claimed_again_moves_nobodys_position(mesh: RedisMesh, redis: Any) -> None:
    await mesh.publish([output(n) for n in range(10)])
    await pass_by(mesh, await claimed(mesh), 4)
    await mesh.trim(SIGNALS, (await mesh.committed([("count", 3, SIGNALS)]))[0])

    await claimed(mesh)
    await claimed(mesh, "newcomer")

    told = await mesh.oversight.positions([("signals", 2), SIGNALS])
    assert await shown(mesh, redis) == told == [Position("count", SIGNALS, 4, 6), Position("newcomer", SIGNALS, 3, 7)]


async def test_what_somebody_deleted_ahead_of_a_stage_is_counted_until_it_is_passed(
    mesh: RedisMesh, redis: Any
) -> None:
    await mesh.publish([output(n) for n in range(10)])
    await pass_by(mesh, await claimed(mesh), 4)
    records = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    await redis.xdel(mesh.keys.partition(SIGNALS), str(records[7].offset))

    assert (await redis.xinfo_groups(mesh.keys.partition(SIGNALS)))[0]["lag"] is None
    assert await mesh.oversight.positions([SIGNALS]) == [Position("count", SIGNALS, 4, 6)]


async def test_owners_are_told_with_what_was_committed_for_them(mesh: RedisMesh) -> None:
    await mesh.publish([output(n) for n in range(10)])
    lease = await claimed(mesh)
    await pass_by(mesh, lease, 1)
    await pass_by(mesh, lease, 1, output(20, "findings"), output(21, LATE.name, 0), output(22, "findings"))
    await pass_by(mesh, lease, 1, output(23, "findings"), output(24, LATE.name, 0))
    stale = Lease("count", 3, "0 nobody")
    await mesh.commit([(stale, Commit("count", 3, {}, outputs=[output(25, "findings")]))])

    assert await mesh.oversight.tallies([("count", 3), ("count", 4)]) == [
        Tally("count", 3, "one", outputs=5, late=2),
        Tally("count", 4, None, outputs=0, late=0),
    ]
    await mesh.release(lease)
    assert await mesh.oversight.tallies([("count", 3)]) == [Tally("count", 3, None, outputs=5, late=2)]


async def test_keys_that_tables_dropped_are_told_by_table_and_bound(mesh: RedisMesh) -> None:
    lease = await claimed(mesh)
    dropped: dict[str, bytes | None] = {"~evicted": b'{"counts":{"keys_max":3}}'}
    await mesh.commit([(lease, Commit("count", 3, {}, state=dropped))])

    [tally] = await mesh.oversight.tallies([("count", 3)])

    assert tally.evicted == {"counts": {"keys_max": 3}}


async def test_more_partitions_than_one_round_trip_asks_for_come_in_order(mesh: RedisMesh) -> None:
    places = [("signals", number) for number in range(1_100)]
    await mesh.publish([output(number, partition=number) for number in range(0, 1_100, 100)])
    for number in range(0, 1_100, 100):
        lease = await mesh.claim("count", number, f"worker {number}", 30)
        assert lease is not None
        await mesh.restore(lease, [("signals", number)])

    assert [p.place[1] for p in await mesh.oversight.positions(places)] == list(range(0, 1_100, 100))
    tallies = await mesh.oversight.tallies([("count", number) for number in range(1_100)])
    assert {t.partition: t.owner for t in tallies if t.owner} == {n: f"worker {n}" for n in range(0, 1_100, 100)}


async def test_what_a_worker_says_is_known_while_it_lives_and_forgotten_when_it_ends(mesh: RedisMesh) -> None:
    said = Report(halted={"count/3": "poisoned"}, restoring={"count/4": "1 of 2 rows"}, troubles=["the store is away"])
    await mesh.join("one", 30)
    await mesh.join("silent", 30)
    reporting = asyncio.create_task(keep_reporting(mesh.oversight, "one", lambda: said))

    await eventually(lambda: mesh.oversight.reports(), saying="something is said")
    assert (await mesh.oversight.reports()) == {"one": said}
    reporting.cancel()
    with suppress(asyncio.CancelledError):
        await reporting

    assert await mesh.oversight.reports() == {}


async def test_what_a_worker_said_before_it_was_killed_is_forgotten_after_a_while(mesh: RedisMesh) -> None:
    await mesh.join("one", 30)
    await mesh.oversight.report("one", Report(), 0.05)

    async def silence() -> bool:
        return await mesh.oversight.reports() == {}

    await eventually(silence, saying="it is forgotten")
