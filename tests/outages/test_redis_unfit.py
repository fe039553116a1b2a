"""Redis is not as it must be: nothing is started on it, and what to do is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.engine.mesh import LostWritesError
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.server_check import Finding, UnfitServerError, facts_of, findings
from tests.outages.cable import cable_to
from tests.outages.own_redis import OwnRedis, own_redis
from tests.outages.small_deployment import deployed_small
from tests.pipeline.commands.calling import start
from tests.polling import eventually

pytestmark = [pytest.mark.servers]

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


def doctor(url: str, **environment: str) -> dict[str, str]:
    """What the doctor says of a server."""
    said = start("doctor", "--json", environment={"REDIS_URL": url, **environment}).stdout
    found: dict[str, str] = next(each for each in orjson.loads(said)["found"] if each["subject"] == "redis answers")
    return found


def refusal(url: str, state_dir: Path, **environment: str) -> str:
    """What `aiops run` says when it does not start, and it is the configuration's fault."""
    settings = {"REDIS_URL": url, "DATABASE_URL": NO_DATABASE, "AIOPS_STATE_DIR": str(state_dir), **environment}
    done = start("run", environment=settings)
    assert done.returncode == 78, done.stderr
    return done.stderr.splitlines()[-1]


def test_redis_has_the_wrong_eviction_policy(server: OwnRedis, tmp_path: Path) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")

    assert "set maxmemory-policy noeviction" in refusal(server.url, tmp_path)
    assert doctor(server.url)["status"] == "problem"
    assert "set maxmemory-policy noeviction" in doctor(server.url)["remedy"]
    with server.client() as client:
        assert client.dbsize() == 0, "nothing was written to it"


async def test_a_server_with_the_wrong_policy_that_takes_over_ends_the_run(server: OwnRedis, tmp_path: Path) -> None:
    with own_redis(tmp_path / "other", maxmemory_policy="volatile-ttl") as other:
        async with cable_to(server, tmp_path) as (cable, url), deployed_small(url, tmp_path) as deployment:
            await deployment.say(range(10))
            await deployment.everything_once()
            cable.lead_to(other)
            await eventually(lambda: deployment.ended_by, saying="the deployment gives up")
            assert isinstance(deployment.ended_by[0], UnfitServerError)
        with other.client() as client:
            assert client.dbsize() == 0


async def test_redis_is_too_old(server: OwnRedis, tmp_path: Path) -> None:
    async with cable_to(server, tmp_path) as (cable, url):
        with server.client() as client:
            compatible = client.info("server")["redis_version"].encode()
        cable.rewrites = {b"redis_version:" + compatible: b"redis_version:" + b"6.2.0".ljust(len(compatible), b"0")}

        said = await asyncio.to_thread(refusal, url, tmp_path / "state")
        assert "is too old" in said
        assert "expected Redis 7.0 or later" in said
        found = await asyncio.to_thread(doctor, url)
        assert (found["status"], "upgrade the server" in found["remedy"]) == ("problem", True)


async def test_redis_has_no_persistence(tmp_path: Path) -> None:
    with own_redis(tmp_path / "redis", appendonly="no") as server:
        told: list[Finding] = []
        mesh = RedisMesh.connect(server.url, "t", on_warning=told.append)
        for worker in ("one", "two"):
            await mesh.join(worker, 5)
        await mesh.close()
        assert [finding.severity for finding in told] == ["warning"], "told, once, and gone on with"
        assert "appendonly yes" in told[0].remedy

        found = await asyncio.to_thread(doctor, server.url)
        assert (found["status"], "appendonly yes" in found["remedy"]) == ("warning", True)
        strict = {"AIOPS_REQUIRE_PERSISTENCE": "1"}
        assert (await asyncio.to_thread(lambda: doctor(server.url, **strict)))["status"] == "problem"
        said = await asyncio.to_thread(lambda: refusal(server.url, tmp_path / "state", **strict))
        assert "set appendonly yes" in said

        async with deployed_small(server.url, tmp_path) as deployment:
            await deployment.say(range(20))
            await deployment.everything_once()
            server.kill()
            server.start()
            await eventually(lambda: deployment.ended_by, saying="the loss is noticed", within_s=20)
            assert isinstance(deployment.ended_by[0], LostWritesError)


async def test_a_user_who_may_not_run_scripts_cannot_carry_a_mesh(server: OwnRedis) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "~*", "+@all", "-eval", "-evalsha")
    mesh = RedisMesh.connect(f"{server.url.replace('unix://', 'unix://poor:secret@')}", "t")
    with pytest.raises(UnfitServerError, match="runs no Lua"):
        await mesh.join("one", 1)
    await mesh.close()


async def test_a_user_who_may_not_ask_for_info_can(server: OwnRedis) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "discreet", "on", ">secret", "~*", "+@all", "-info")
    mesh = RedisMesh.connect(f"{server.url.replace('unix://', 'unix://discreet:secret@')}", "t")
    assert list(await mesh.join("one", 1)) == ["one"]
    await mesh.close()


def test_what_a_server_does_not_say_is_not_held_against_it() -> None:
    assert findings(facts_of({})) == []
    assert findings(facts_of({"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction"})) == []
    assert [f.severity for f in findings(facts_of({"redis_version": "6.2.14", "aof_enabled": 0}))] == [
        "error",
        "warning",
    ]
