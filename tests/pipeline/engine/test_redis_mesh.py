"""What Redis and the network between may do to a mesh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from pipeline.engine import redis_mesh
from pipeline.engine.keys import Keys
from pipeline.engine.mesh import Lease, LostWritesError, MeshUnavailableError
from pipeline.engine.record import BEGINNING, Commit, Output
from pipeline.engine.redis_mesh import RedisMesh
from tests.pipeline.engine.relay import Relay, relayed
from topology.ids import derived_id

pytestmark = pytest.mark.servers
SIGNALS = ("signals", 0)
FINDINGS = ("findings", 0)


def output(number: int, place: tuple[str, int] = SIGNALS) -> Output:
    return Output(*place, "key", "metric.sampled", str(derived_id(number)), b'{"number": %d}' % number)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, "t")
    yield mesh
    await mesh.close()


@pytest.fixture
async def relay(redis_url: str, state_dir: Path) -> AsyncIterator[tuple[Relay, RedisMesh]]:
    async with relayed(redis_url, state_dir) as (relay, url):
        mesh = RedisMesh.connect(url, "t")
        yield relay, mesh
        await mesh.close()


async def claimed(mesh: RedisMesh) -> Lease:
    lease = await mesh.claim("count", 0, "one", 30)
    assert lease is not None
    return lease


async def test_a_commit_whose_answer_was_lost_is_made_once(relay: tuple[Relay, RedisMesh]) -> None:
    cable, mesh = relay
    lease = await claimed(mesh)
    await mesh.publish([output(1)])
    [record] = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    commit = Commit("count", 0, {SIGNALS: record.offset}, {SIGNALS: 1}, {"a/x": b"1"}, [output(2, FINDINGS)])
    await mesh.commit([(lease, Commit("count", 0, {}))])  # the server knows the script

    cable.lose_the_answer_to(b"EVALSHA")
    with pytest.raises(MeshUnavailableError):
        await mesh.commit([(lease, commit)])

    assert cable.lost == 1
    restored = await mesh.restore(lease, [SIGNALS])
    assert (restored.offsets, restored.state) == ({SIGNALS: record.offset}, {"a/x": b"1"})
    assert len(await mesh.read({FINDINGS: BEGINNING}, count=10, wait_s=0)) == 1
    assert [lag.waiting for lag in await mesh.lags([("count", 0, SIGNALS)])] == [0]


async def test_a_publication_whose_answer_was_lost_can_be_repeated(relay: tuple[Relay, RedisMesh]) -> None:
    cable, mesh = relay
    await mesh.publish([output(0)])
    cable.lose_the_answer_to(b"EVALSHA")
    with pytest.raises(MeshUnavailableError):
        await mesh.publish([output(1), output(2)])

    assert await mesh.publish([output(1), output(2), output(3)]) == 1


async def test_a_server_that_refuses_is_unavailable_and_then_is_not(relay: tuple[Relay, RedisMesh]) -> None:
    cable, mesh = relay
    cable.refusing = True
    cable.cut()
    with pytest.raises(MeshUnavailableError):
        await mesh.join("one", 1)
    cable.refusing = False
    assert await mesh.join("one", 1) == {"one": ""}


async def test_a_server_that_forgot_its_scripts_is_taught_again(mesh: RedisMesh, redis: Any) -> None:
    lease = await claimed(mesh)
    await mesh.commit([(lease, Commit("count", 0, {}, state={"a/x": b"1"}))])
    await redis.script_flush()
    commits = [(lease, Commit("count", 0, {}, state={f"a/{n}": b"1"}, outputs=[output(n, FINDINGS)])) for n in range(3)]
    assert await mesh.commit(commits) == [None] * 3
    assert len(await mesh.read({FINDINGS: BEGINNING}, count=10, wait_s=0)) == 3


async def test_a_full_server_takes_no_half_commit(mesh: RedisMesh, redis: Any) -> None:
    lease = await claimed(mesh)
    await mesh.publish([output(1)])
    [record] = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    commit = Commit("count", 0, {SIGNALS: record.offset}, {SIGNALS: 1}, {"a/x": b"1"}, [output(2, FINDINGS)])
    await redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(MeshUnavailableError):
            await mesh.commit([(lease, commit)])
        assert (await mesh.restore(lease, [SIGNALS])).offsets == {SIGNALS: BEGINNING}
        assert await mesh.read({FINDINGS: BEGINNING}, count=10, wait_s=0) == []
    finally:
        await redis.config_set("maxmemory", "0")
    assert await mesh.commit([(lease, commit)]) == [None]


async def test_a_server_that_lost_writes_is_not_gone_on_with(mesh: RedisMesh, redis: Any) -> None:
    lease = await claimed(mesh)
    await mesh.publish([output(1), output(2)])
    records = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    await mesh.commit([(lease, Commit("count", 0, {SIGNALS: records[-1].offset}, {SIGNALS: 2}))])

    await redis.xtrim(mesh.keys.partition(SIGNALS), maxlen=0)
    await mesh.restore(lease, [SIGNALS])  # trimmed by somebody, but nothing is lost

    await redis.delete(mesh.keys.partition(SIGNALS))
    with pytest.raises(LostWritesError, match="lost writes"):
        await mesh.restore(lease, [SIGNALS])


async def test_what_somebody_else_wrote_into_a_stream_does_not_stop_reading(mesh: RedisMesh, redis: Any) -> None:
    await redis.xadd(mesh.keys.partition(SIGNALS), {"k": b"\xff\xfe", "other": "field"})
    await mesh.publish([output(1)])
    assert [r.value for r in await mesh.read({SIGNALS: BEGINNING}, count=9, wait_s=0)] == [b"", b'{"number": 1}']


async def test_a_large_publication_is_one_for_the_caller(mesh: RedisMesh) -> None:
    assert await mesh.publish([output(n) for n in range(2_500)]) == 2_500
    records = await mesh.read({SIGNALS: BEGINNING}, count=9_999, wait_s=0)
    assert [r.value for r in records] == [b'{"number": %d}' % n for n in range(2_500)]


async def test_lag_is_what_redis_itself_shows(mesh: RedisMesh, redis: Any) -> None:
    lease = await claimed(mesh)
    await mesh.publish([output(n) for n in range(10)])
    records = await mesh.read({SIGNALS: BEGINNING}, count=10, wait_s=0)
    await mesh.commit([(lease, Commit("count", 0, {SIGNALS: records[3].offset}, {SIGNALS: 4}))])
    assert await shown(redis) == [("count", 6)]
    assert [lag.waiting for lag in await mesh.lags([("count", 0, SIGNALS)])] == [6]

    assert await mesh.trim(SIGNALS, records[3].offset) == 3
    assert await shown(redis) == [("count", 6)]

    newcomer = await mesh.claim("new", 0, "one", 30)
    assert newcomer is not None
    assert [lag.waiting for lag in await mesh.lags([("new", 0, SIGNALS)])] == [7], "what is still there"
    await mesh.commit([(newcomer, Commit("new", 0, {SIGNALS: records[5].offset}, {SIGNALS: 3}))])
    assert await shown(redis) == [("count", 6), ("new", 4)]
    assert [lag.waiting for lag in await mesh.lags([("new", 0, SIGNALS)])] == [4]


async def shown(redis: Any) -> list[tuple[str, int]]:
    groups = await redis.xinfo_groups(Keys("t").partition(SIGNALS))
    return sorted((group["name"].decode(), group["lag"]) for group in groups)


async def test_whoever_is_cancelled_in_a_call_ends(mesh: RedisMesh) -> None:
    async def call_for_ever() -> None:
        while True:
            await mesh.join("one", 5)

    for turns in range(300):
        calling = asyncio.create_task(call_for_ever())
        for _ in range(turns % 30):
            await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait({calling}, timeout=3)
        assert calling.cancelled(), f"cancelled after {turns % 30} turns"


async def test_much_is_trimmed_in_parts_so_that_the_server_serves_others_in_between(
    mesh: RedisMesh, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def calls() -> int:
        return int((await redis.info("commandstats")).get("cmdstat_xtrim", {}).get("calls", 0))

    monkeypatch.setattr(redis_mesh, "_TRIMMED_PER_CALL", 200)
    await mesh.publish([output(n) for n in range(1_050)])
    records = await mesh.read({SIGNALS: BEGINNING}, count=9_999, wait_s=0)
    before = await calls()
    assert await mesh.trim(SIGNALS, records[1_000].offset) == 1_000
    assert await calls() - before >= 5
    assert len(await mesh.read({SIGNALS: BEGINNING}, count=9_999, wait_s=0)) == 50


async def test_a_read_that_waits_longer_than_clients_wait_for_answers_is_no_outage(mesh: RedisMesh) -> None:
    assert await mesh.read({SIGNALS: BEGINNING}, count=1, wait_s=60) == []
    assert mesh.outage.trouble == ""
