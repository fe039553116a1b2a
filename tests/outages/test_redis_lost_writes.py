"""Redis forgets what it had taken: that is noticed, told, and never gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.engine.keys import Keys
from pipeline.engine.mesh import LostWritesError
from tests.outages.cable import cable_to
from tests.outages.own_redis import OwnRedis, free_port, own_redis
from tests.outages.small_deployment import SmallDeployment, deployed_small
from tests.pipeline.commands.calling import start, started
from tests.polling import eventually, wait_until

pytestmark = [pytest.mark.servers]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


async def ended(deployment: SmallDeployment) -> str:
    """Why the deployment gave up."""
    await eventually(lambda: deployment.ended_by, saying="the deployment gives up", within_s=20)
    assert all(isinstance(error, LostWritesError) for error in deployment.ended_by)
    return str(deployment.ended_by[0])


async def test_redis_is_flushed(server: OwnRedis, tmp_path: Path) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(50))
        await deployment.everything_once()
        with server.client() as client:
            client.flushall()
        await deployment.say(range(50, 60))  # whoever speaks next makes the streams anew: that must not hide it

        assert "lost writes" in await ended(deployment)
        assert await deployment.numbered() == [], "nothing was counted from the beginning"


async def test_a_flush_is_noticed_when_nobody_says_anything(server: OwnRedis, tmp_path: Path) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(50))
        await deployment.everything_once()
        with server.client() as client:
            client.flushall()
        assert "had taken" in await ended(deployment)


async def test_a_stream_that_vanishes_is_noticed_even_when_it_begins_anew(server: OwnRedis, tmp_path: Path) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(50))
        await deployment.everything_once()
        before = len(await deployment.numbered())
        with server.client() as client:
            for partition in range(3):
                client.delete(Keys("t").partition(("signals", partition)))
        await deployment.say(range(50, 60))

        assert "does not have all of the" in await ended(deployment)
        assert len(await deployment.numbered()) == before, "what cannot be put in order was not committed"


async def test_a_consumer_group_that_somebody_removed_is_made_again(server: OwnRedis, tmp_path: Path) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(20))
        await deployment.everything_once()
        with server.client() as client:
            for partition in range(3):
                assert client.xgroup_destroy(Keys("t").partition(("signals", partition)), "ask-world") in {0, 1}
        await deployment.say(range(20, 40))
        await deployment.everything_once()
        assert not deployment.ended_by


async def test_redis_fails_over_with_lost_writes(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    with own_redis(tmp_path / "one", port=first) as primary, own_redis(tmp_path / "two", port=second) as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", first)
        async with (
            cable_to(primary, tmp_path) as (cable, url),
            deployed_small(url, tmp_path) as deployment,
        ):
            await deployment.say(range(50))
            await deployment.everything_once()
            with primary.client() as client, replica.client() as other:
                wait_until(
                    lambda: (
                        client.info("replication")["master_repl_offset"]
                        == other.info("replication")["master_repl_offset"]
                    ),
                    saying="the replica has caught up",
                )
                other.replicaof("no", "one")
            await deployment.say(range(50, 100))
            await deployment.everything_once()
            out = len(await deployment.numbered())
            with replica.client() as client:
                keys_before = {key: client.dump(key) for key in client.scan_iter(Keys("t").all_owned("offsets"))}

            cable.lead_to(replica)
            primary.kill()

            assert "Restore the server's data" in await ended(deployment)
            with replica.client() as client:
                kept = sum(client.xlen(Keys("t").partition(("numbered", partition))) for partition in range(3))
                keys_after = {key: client.dump(key) for key in client.scan_iter(Keys("t").all_owned("offsets"))}
            assert kept == 50 < out
            assert keys_after == keys_before, "no commit was put on top of what is missing"

        # Starting again is how a person says that the loss is accepted: what was lost is sent again, and counts once.
        async with deployed_small(replica.url, tmp_path / "again") as deployment:
            await deployment.say(range(100, 110))
            await eventually(lambda: count(deployment, 60), saying="it goes on from what the server has", within_s=20)
            assert not deployment.ended_by


async def count(deployment: SmallDeployment, expected: int) -> bool:
    return len(await deployment.numbered()) == expected


async def test_a_publication_that_is_lost_before_anybody_read_it_is_noticed(tmp_path: Path) -> None:
    with own_redis(tmp_path / "one") as one, own_redis(tmp_path / "two") as two:
        async with cable_to(one, tmp_path) as (cable, url):
            deployment = SmallDeployment(url, tmp_path)  # not started: there are no commits to compare
            await deployment.say(range(5))
            cable.lead_to(two)
            await deployment.say([5])
            assert deployment.journal.waiting.events == 1, "what was accepted meanwhile is kept"
            with pytest.raises(LostWritesError, match="does not know event"):
                await deployment.mesh.ping()
            await deployment.sources.close()
            await deployment.mesh.close()


async def test_what_retention_forgot_is_not_lost(tmp_path: Path, server: OwnRedis) -> None:
    async with cable_to(server, tmp_path) as (cable, url), deployed_small(url, tmp_path) as deployment:
        await deployment.say(range(20))
        await deployment.everything_once()
        with server.client() as client:
            for partition in range(3):
                client.xtrim(Keys("t").partition(("signals", partition)), maxlen=0, approximate=False)
        server.stop()
        server.start()
        cable.lead_to(server)
        await deployment.say(range(20, 40))
        await deployment.everything_once()
        assert not deployment.ended_by


def test_a_run_whose_redis_is_flushed_ends_with_an_error_that_says_what_to_do(server: OwnRedis, tmp_path: Path) -> None:
    environment = {"REDIS_URL": server.url, "AIOPS_DOOR_PORT": "0", "AIOPS_STATE_DIR": str(tmp_path / "state")}
    # The stores need not be there for the loss to be noticed.
    environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    with started("run", environment=environment) as run:
        with server.client() as client:
            wait_until(
                lambda: any(
                    client.hget(key, "~commits")
                    for key in client.scan_iter(Keys("aiops").all_owned("offsets", stage="normalize"))
                ),
                saying="something is committed",
                within_s=40,
            )
            client.flushall()
        _, said = run.communicate(timeout=40)
    assert run.returncode == 1, said
    assert "lost writes" in said.splitlines()[-1]
    assert "start again" in said.splitlines()[-1]


async def test_the_doctor_tells_what_does_not_fit_together(server: OwnRedis, tmp_path: Path) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(20))
        await deployment.everything_once()
    environment = {"REDIS_URL": server.url, "AIOPS_NAMESPACE": "t"}
    healthy = await asyncio.to_thread(start, "doctor", "--json", environment=environment)
    with server.client() as client:
        client.delete(*(Keys("t").partition(("signals", partition)) for partition in range(3)))
    sick = await asyncio.to_thread(start, "doctor", "--json", environment=environment)

    def data(said: str) -> dict[str, str]:
        found: dict[str, str] = next(f for f in orjson.loads(said)["found"] if f["subject"] == "redis data")
        return found

    assert data(healthy.stdout)["status"] == "ok"
    assert data(sick.stdout)["status"] == "problem"
    assert "the server has no such stream" in data(sick.stdout)["what"]
    assert sick.returncode == 1
