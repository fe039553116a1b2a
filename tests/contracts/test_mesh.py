"""What every mesh promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.engine.mesh import MEMBERS, FencedError, Lease, Mesh, PartitionsChangedError
from pipeline.engine.record import BEGINNING, Commit, Output, Restored, partition_of
from tests.contracts.meshes import MESHES, opened
from tests.polling import eventually
from topology.ids import derived_id

SIGNALS = ("signals", 0)
FINDINGS = ("findings", 1)


@pytest.fixture(params=MESHES)
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    async with opened(request.param, request) as mesh:
        yield mesh


def output(number: int, place: tuple[str, int] = SIGNALS) -> Output:
    return Output(*place, "key", "metric.sampled", str(derived_id(number)), b'{"number": %d}' % number)


async def owner(mesh: Mesh, name: str = "one", ttl_s: float = 30.0) -> Lease:
    lease = await mesh.claim("count", 0, name, ttl_s)
    assert lease is not None
    return lease


async def everything(mesh: Mesh, lease: Lease) -> Restored:
    """What is restored, in one part."""
    restored = await mesh.restore(lease, [SIGNALS])
    more = restored.more
    while more:
        part = await mesh.restore_more(lease, more)
        restored.state |= part.state
        more = part.more
    return restored


async def test_what_is_published_is_read_in_order_after_an_offset(mesh: Mesh) -> None:
    assert await mesh.publish([output(n) for n in range(5)]) == 5

    first = await mesh.read({SIGNALS: BEGINNING}, count=2, wait_s=0)
    rest = await mesh.read({SIGNALS: first[-1].offset}, count=10, wait_s=0)

    assert [r.value for r in first + rest] == [b'{"number": %d}' % n for n in range(5)]
    assert [r.key for r in rest] == ["key"] * 3
    assert await mesh.read({SIGNALS: rest[-1].offset}, count=10, wait_s=0) == []


async def test_a_repeated_event_is_published_once(mesh: Mesh) -> None:
    assert await mesh.publish([output(1), output(2)]) == 2
    assert await mesh.publish([output(2), output(3), output(3)]) == 1
    assert len(await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)) == 3


async def test_a_read_wakes_up_when_something_is_published(mesh: Mesh) -> None:
    import asyncio

    reading = asyncio.create_task(mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=30))
    await asyncio.sleep(0)
    await mesh.publish([output(1)])

    assert len(await asyncio.wait_for(reading, 5)) == 1


async def test_a_commit_is_restored_with_state_offset_and_outputs(mesh: Mesh) -> None:
    lease = await owner(mesh)
    await mesh.publish([output(n) for n in range(3)])
    records = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    commit = Commit("count", 0, {SIGNALS: records[1].offset}, {SIGNALS: 2}, {"a/x": b"1", "a/y": b"2"})
    commit.outputs = [output(10, FINDINGS), output(11, FINDINGS)]

    assert await mesh.commit([(lease, commit)]) == [None]
    assert await mesh.commit([(lease, Commit("count", 0, {}, state={"a/x": None, "a/z": b"\x00\xff"}))]) == [None]

    restored = await mesh.restore(lease, [SIGNALS])
    assert restored.offsets == {SIGNALS: records[1].offset}
    assert restored.state == {"a/y": b"2", "a/z": b"\x00\xff"}
    assert len(await mesh.read({FINDINGS: BEGINNING}, count=10, wait_s=0)) == 2
    assert [lag.waiting for lag in await mesh.lags([("count", 0, SIGNALS)])] == [1]


async def test_a_commit_may_change_thousands_of_rows(mesh: Mesh) -> None:
    lease = await owner(mesh)
    rows: dict[str, bytes | None] = {f"a/{n}": b"%d" % n for n in range(2_345)}
    for n in range(1_201):
        await mesh.record_answer(lease, str(n), b"%d" % n)

    assert await mesh.commit([(lease, Commit("count", 0, {}, state=rows))]) == [None]
    assert (await everything(mesh, lease)).state == rows

    fewer: dict[str, bytes | None] = {f"a/{n}": None if n < 1_500 else b"new" for n in range(1_501)}
    done = [str(n) for n in range(1_200)]
    assert await mesh.commit([(lease, Commit("count", 0, {}, state=fewer, answered=done))]) == [None]
    restored = await everything(mesh, lease)
    assert restored.state == {"a/1500": b"new"} | {f"a/{n}": b"%d" % n for n in range(1_501, 2_345)}
    assert restored.answers == {"1200": 1_200}


async def test_a_large_state_is_restored_in_parts_that_make_the_whole(mesh: Mesh) -> None:
    lease = await owner(mesh)
    rows: dict[str, bytes | None] = {f"a/{n}": b"%d" % n for n in range(25_000)}
    await mesh.commit([(lease, Commit("count", 0, {}, state=rows))])

    first = await mesh.restore(lease, [SIGNALS])
    assert first.rows == 25_000
    assert 0 < len(first.state) <= 12_500, "a part is no more than so much"
    assert (await everything(mesh, lease)).state == rows


async def test_a_restore_whose_lease_was_lost_on_the_way_ends(mesh: Mesh) -> None:
    stale = await owner(mesh)
    rows: dict[str, bytes | None] = {f"a/{n}": b"%d" % n for n in range(25_000)}
    await mesh.commit([(stale, Commit("count", 0, {}, state=rows))])
    first = await mesh.restore(stale, [SIGNALS])
    await mesh.release(stale)
    await owner(mesh, "two")

    with pytest.raises(FencedError):
        await mesh.restore_more(stale, first.more)


async def test_a_commit_of_an_owner_that_was_replaced_changes_nothing(mesh: Mesh) -> None:
    stale = await owner(mesh)
    await mesh.release(stale)
    current = await owner(mesh, "two")
    commit = Commit("count", 0, {}, state={"a/x": b"1"})
    commit.outputs = [output(10, FINDINGS)]

    outcomes = await mesh.commit([(stale, commit)])

    assert isinstance(outcomes[0], FencedError)
    assert (await mesh.restore(current, [SIGNALS])).state == {}
    assert await mesh.read({FINDINGS: BEGINNING}, count=10, wait_s=0) == []
    with pytest.raises(FencedError):
        await mesh.record_answer(stale, "k", b"1")


async def test_an_owner_whose_lease_ran_out_is_fenced_even_when_nobody_took_over(mesh: Mesh) -> None:
    lease = await owner(mesh, ttl_s=0.05)

    async def lost() -> bool:
        return await mesh.renew([lease], 0.05) == [lease]

    await eventually(lambda: lost_without_renewing(mesh, lease), saying="the lease runs out")
    assert await lost()
    assert isinstance((await mesh.commit([(lease, Commit("count", 0, {}, state={"a/x": b"1"}))]))[0], FencedError)


async def lost_without_renewing(mesh: Mesh, lease: Lease) -> bool:
    return await mesh.claim(lease.stage, lease.partition, "another", 30.0) is not None


async def test_a_lease_has_one_owner_and_every_owner_a_new_token(mesh: Mesh) -> None:
    first = await owner(mesh)
    assert await mesh.claim("count", 0, "two", 30.0) is None
    again = await owner(mesh)
    assert again.token != first.token
    assert await mesh.renew([first, again], 30.0) == [first]


async def test_the_first_answer_stays_until_its_event_is_done(mesh: Mesh) -> None:
    lease = await owner(mesh)
    await mesh.record_answer(lease, "k", b'{"answer": 1}')
    await mesh.record_answer(lease, "other", b"2")

    assert (await mesh.restore(lease, [SIGNALS])).answers == {"k": {"answer": 1}, "other": 2}

    await mesh.commit([(lease, Commit("count", 0, {}, answered=["k"]))])
    assert (await mesh.restore(lease, [SIGNALS])).answers == {"other": 2}


async def test_workers_that_joined_are_listed_until_they_leave(mesh: Mesh) -> None:
    assert await mesh.join("b", 30.0, "much") == {"b": "much"}
    assert await mesh.join("a", 30.0) == {"a": "", "b": "much"}
    assert await mesh.join("b", 30.0, "little") == {"a": "", "b": "little"}
    await mesh.leave("b")
    await mesh.leave("nobody")
    assert await mesh.join("a", 30.0) == {"a": ""}


async def test_a_reader_is_woken_when_the_list_of_workers_changes_and_only_then(mesh: Mesh) -> None:
    at = BEGINNING

    async def changed() -> bool:
        nonlocal at
        records = await mesh.read({MEMBERS: at}, count=10, wait_s=0)
        at = records[-1].offset if records else at
        assert len(records) <= 1, "what is older says nothing more"
        return bool(records)

    assert not await changed()
    await mesh.join("a", 30.0, "much")
    assert await changed()
    await mesh.join("a", 30.0, "much")
    assert not await changed()
    await mesh.join("a", 30.0, "little")
    assert await changed()
    await mesh.join("b", 0.05)
    assert await changed()
    await mesh.leave("nobody")
    assert not await changed()

    async def forgotten() -> bool:
        return await mesh.join("a", 30.0, "little") == {"a": "little"}

    await eventually(forgotten, saying="the other's time runs out")
    assert await changed()
    await mesh.leave("a")
    assert await changed()


async def test_many_are_claimed_renewed_and_given_back_at_once(mesh: Mesh) -> None:
    places = [("count", partition) for partition in range(1_201)]
    taken = await mesh.claim("count", 700, "two", 30.0)
    assert taken is not None

    leases = await mesh.claim_all(places, "one", 30.0)

    assert leases[700] is None
    mine = [lease for lease in leases if lease is not None]
    assert [(lease.stage, lease.partition) for lease in mine] == [place for place in places if place != ("count", 700)]
    await mesh.release(mine[3], mine[1_199])
    assert await mesh.renew([taken, *mine], 30.0) == [mine[3], mine[1_199]]
    await mesh.release(*mine)
    assert None not in await mesh.claim_all([place for place in places if place != ("count", 700)], "two", 30.0)
    assert await mesh.claim_all([], "one", 30.0) == []


@pytest.mark.parametrize(
    ("key", "partition"), [("21", 0xC8F5A5A1 & 0x7FFFFFFF), ("foobar", 0x7FFFFFFF & -790332482), ("", 0)]
)
def test_keys_fall_into_the_partitions_kafka_would_choose(key: str, partition: int) -> None:
    # Kafka's own test vectors (UtilsTest.testMurmur2): "21" -> -973932308, "foobar" -> -790332482.
    expected = {"21": -973932308 & 0x7FFFFFFF, "foobar": -790332482 & 0x7FFFFFFF}.get(key)
    if expected is not None:
        assert partition_of(key, 1000) == expected % 1000
    assert 0 <= partition_of(key, 7) < 7


async def test_the_first_to_say_how_many_partitions_there_are_decides(mesh: Mesh) -> None:
    await mesh.declare({"stream signals": 4, "stage count": 4})
    await mesh.declare({"stream signals": 4, "stream added": 2})
    with pytest.raises(PartitionsChangedError, match="stream signals with 8 partitions, not 4"):
        await mesh.declare({"stream signals": 8, "stream new": 1})
    await mesh.declare({"stream new": 2})  # what was refused has declared nothing
    with pytest.raises(PartitionsChangedError, match="stage count with 2 partitions, not 4"):
        await mesh.declare({"stage count": 2})
