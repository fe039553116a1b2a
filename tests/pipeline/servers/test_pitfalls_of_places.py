"""What went wrong with embedded servers elsewhere: accounts, places, locales and sockets (pitfalls 1 to 4).

Tests that need root or another account say so in one line when they cannot run.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from pathlib import Path

import asyncpg
import pytest
import redis

from pipeline.servers import (
    StateDirUnusableError,
    acquire,
)
from pipeline.servers.accounts import unprivileged_account
from pipeline.servers.server_dir import SOCKET_PATH_BYTES_MAX
from tests.pipeline.servers.engine_copies import copy_of_the_wheels
from tests.pipeline.servers.other_process import (
    BOTH,
    POSTGRES,
    REDIS,
    Stranger,
    another_user,
    pids_of,
    wait_until_gone,
)
from tests.polling import wait_until

pytestmark = pytest.mark.servers
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another account")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
UID_WITHOUT_ACCOUNT = 54321


def modes_above(path: Path) -> dict[Path, int]:
    return {step: stat.S_IMODE(step.stat().st_mode) for step in path.parents}


# 1 root


@as_root
def test_roots_servers_run_as_an_account_that_exists_and_leave_the_machine_as_it_was(state_dir: Path) -> None:
    accounts, modes = Path("/etc/passwd").read_bytes(), modes_above(state_dir / "x")
    account = unprivileged_account()
    assert account is not None
    with acquire(state_dir, need=BOTH) as lease:
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids_of(lease)} == {account.uid}
        groups = Path(f"/proc/{pids_of(lease)[0]}/status").read_text().split("Groups:")[1].splitlines()[0].split()
        assert groups == [], "no group of root's is kept"
    assert Path("/etc/passwd").read_bytes() == accounts
    assert modes_above(state_dir / "x") == modes


@as_root
def test_a_state_directory_that_the_account_cannot_reach_is_refused_and_left_alone(state_dir: Path) -> None:
    private = state_dir / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(StateDirUnusableError, match=r"cannot pass .*private \(mode 0700\).* such as /var/lib/aiops"):
        acquire(private / "aiops", need=REDIS)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@as_root
def test_data_keeps_its_account_when_a_better_one_appears_later(state_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    with acquire(state_dir, need=REDIS) as lease:
        pass
    wait_until_gone(pids_of(lease))
    data = state_dir / "redis" / "data"
    for path in (data, *data.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    with acquire(state_dir, need=REDIS) as lease:
        assert Path(f"/proc/{pids_of(lease)[0]}").stat().st_uid == nobody.pw_uid


@as_root
def test_a_uid_without_an_account_is_told_what_to_do(state_dir: Path, stranger: Stranger) -> None:
    own = state_dir / "own"
    own.mkdir()
    os.chown(own, UID_WITHOUT_ACCOUNT, UID_WITHOUT_ACCOUNT)
    with another_user(
        own, "postgres", uid=UID_WITHOUT_ACCOUNT, python=stranger.python, environment=stranger.environment
    ) as other:
        told = other.answer()
    assert told["error"] == "StateDirUnusableError"
    assert f"uid {UID_WITHOUT_ACCOUNT} has none" in str(told["message"])
    assert "DATABASE_URL" in str(told["message"])


def test_data_of_another_user_is_refused_by_name(state_dir: Path) -> None:
    if os.geteuid() == 0:
        data = state_dir / "redis" / "data"
        data.mkdir(parents=True)
        os.chown(data, UID_WITHOUT_ACCOUNT, UID_WITHOUT_ACCOUNT)
        with pytest.raises(StateDirUnusableError, match=f"belongs to uid {UID_WITHOUT_ACCOUNT}"):
            acquire(state_dir, need=REDIS)
    else:
        with pytest.raises(StateDirUnusableError, match="Set AIOPS_STATE_DIR"):
            acquire(Path("/usr/aiops-test"), need=REDIS)


# 2 packages out of reach


@as_root
def test_packages_below_a_private_directory_are_copied_with_their_libraries(state_dir: Path) -> None:
    private = state_dir / "venv"
    copy_of_the_wheels(private)
    private.chmod(0o700)
    with another_user(state_dir / "state", packages_first=private) as other:
        told = other.answer()
        assert "error" not in told, told
        assert Path(f"/proc/{told['pids']['postgres']}/exe").readlink().is_relative_to(state_dir / "state")  # type: ignore[index]
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


# 3 locales


def test_a_locale_that_was_never_generated_does_not_matter(state_dir: Path) -> None:
    with another_user(state_dir, "postgres", environment={"LC_ALL": "xx_YY.UTF-8", "LANG": "xx_YY.UTF-8"}) as other:
        assert "error" not in other.answer()


# 4 socket addresses


def test_a_path_of_200_characters_gets_sockets_with_short_addresses_that_others_cannot_reach(state_dir: Path) -> None:
    deep = state_dir / "/".join(["d" * 49] * 4)
    with acquire(deep, need=BOTH) as lease:
        for server in lease.servers:
            assert len(os.fsencode(server.where)) <= SOCKET_PATH_BYTES_MAX
            assert stat.S_IMODE(server.where.parent.stat().st_mode) == 0o700
        assert lease.redis_url is not None
        with redis.Redis.from_url(lease.redis_url) as client:
            assert client.ping()
        sockets = [server.where for server in lease.servers]
    wait_until(lambda: not any(path.parent.exists() for path in sockets), saying="nothing is left in /tmp")


def test_the_joining_process_finds_the_sockets_although_its_environment_differs(state_dir: Path) -> None:
    deep = state_dir / "/".join(["d" * 49] * 4)
    with (
        another_user(deep, "redis", environment={"XDG_RUNTIME_DIR": str(state_dir)}) as one,
        another_user(deep, "redis", environment={"XDG_RUNTIME_DIR": ""}) as two,
    ):
        assert one.answer()["redis_url"] == two.answer()["redis_url"]


async def test_a_password_is_needed_even_on_the_socket(state_dir: Path) -> None:
    with acquire(state_dir, need=POSTGRES) as lease, pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(user="aiops", password="guess", host=str(lease.servers[0].where.parent), database="aiops")
    assert stat.S_IMODE((state_dir / "postgres" / "password").stat().st_mode) == 0o600
