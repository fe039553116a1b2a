"""The process that stops servers when nobody uses them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import redis

from pipeline.servers import ServerFailedError, acquire, guard, stop
from pipeline.servers.server_dir import existing_server_dir
from tests.pipeline.servers.other_process import REDIS, is_alive, pids_of, wait_until_gone
from tests.polling import wait_until

pytestmark = pytest.mark.servers
GUARD_BYTES_MAX = 15_000_000


def guard_pid(state_dir: Path) -> int:
    pid = existing_server_dir(state_dir, "redis").guard_pid()
    assert pid
    return pid


def test_the_guard_is_small_and_nobodys_child(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS):
        process = psutil.Process(guard_pid(state_dir))
        assert process.memory_info().rss < GUARD_BYTES_MAX
        assert process.ppid() != os.getpid()
        assert os.getsid(process.pid) != os.getsid(0), "Ctrl-C does not reach it"


def test_the_guard_rests_while_nothing_happens(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS):
        process = psutil.Process(guard_pid(state_dir))
        began, before = time.monotonic(), sum(process.cpu_times()[:2])
        wait_until(lambda: time.monotonic() - began > 2, saying="two seconds have passed")
        assert sum(process.cpu_times()[:2]) - before <= 0.02, "one percent of a core"


def test_the_guard_ignores_what_a_terminal_sends(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(guard_pid(state_dir), number)
        assert lease.redis_url is not None
        with redis.Redis.from_url(lease.redis_url) as client:
            assert client.ping()
        assert is_alive(guard_pid(state_dir))


def test_stop_stops_servers_that_are_in_use_and_a_new_user_gets_new_ones(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        guard_process = guard_pid(state_dir)
        stop(state_dir)
        assert not any(map(is_alive, [*pids_of(lease), guard_process]))
        with acquire(state_dir, need=REDIS) as again:
            assert pids_of(again) != pids_of(lease)


def test_stop_where_nothing_runs_is_nothing(state_dir: Path) -> None:
    stop(state_dir)
    stop(state_dir / "never" / "made")
    assert not list(state_dir.iterdir())


def test_the_server_stops_when_its_directory_is_removed(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        pids = [*pids_of(lease), guard_pid(state_dir)]
        shutil.rmtree(state_dir)
        wait_until_gone(pids)


def test_a_server_that_dies_again_and_again_is_given_up_and_the_next_user_told_why(state_dir: Path) -> None:
    with acquire(state_dir, need=REDIS) as lease:
        # A file that the server refuses to load, and that every restart meets again.
        (part,) = (state_dir / "redis/data/appendonlydir").glob("*.manifest")
        part.write_text("not a manifest\n")
        os.kill(pids_of(lease)[0], signal.SIGKILL)
        home = existing_server_dir(state_dir, "redis")
        wait_until(lambda: home.guard_pid() is None, saying="the guard has given up", within_s=20)
        assert "giving up" in home.guard_log.read_text()
        with pytest.raises(ServerFailedError, match="AOF manifest"):
            acquire(state_dir, need=REDIS)


def test_a_killed_starter_leaves_a_guard_that_goes_by_itself(state_dir: Path) -> None:
    """Killed between starting the guard and reading its answer: the guard must not stumble over the broken pipe."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    saved = os.dup(1), os.dup(0)
    try:
        os.dup2(write_end, 1)
        guard.report({"pid": 1})
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 0)
        for descriptor in (*saved, write_end):
            os.close(descriptor)
