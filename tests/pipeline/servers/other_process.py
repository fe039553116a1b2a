"""Another process that uses servers, and can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

import pipeline.servers
from pipeline.servers import ServerLease, ServerName
from tests.polling import wait_until

BOTH: frozenset[ServerName] = frozenset({"redis", "postgres"})
REDIS: frozenset[ServerName] = frozenset({"redis"})
POSTGRES: frozenset[ServerName] = frozenset({"postgres"})

REPOSITORY = Path(pipeline.servers.__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from pipeline.servers import ServersError, acquire
try:
    lease = acquire(Path(sys.argv[1]), need=frozenset(sys.argv[2].split(",")))
except ServersError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
    sys.exit(1)
print(json.dumps({
    "redis_url": lease.redis_url,
    "database_url": lease.database_url,
    "pids": {server.name: server.pid for server in lease.servers},
    "why": {server.name: server.why for server in lease.servers},
    "imported": sorted(sys.modules),
}), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Stranger:
    """How to start a process as somebody else than root.

    Attributes:
        python: an interpreter that everybody may run.
        environment: where it finds our packages.
    """

    python: str
    environment: dict[str, str]


@dataclass(frozen=True)
class OtherProcess:
    process: subprocess.Popen[str]

    def answer(self) -> dict[str, object]:
        """What it got: addresses and pids, or ``error`` and ``message``. Waits for it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the other process died without an answer"
        told = json.loads(line)
        assert isinstance(told, dict)
        return told

    def pid_of(self, name: str) -> int:
        pids = self.answer()["pids"]
        assert isinstance(pids, dict)
        return int(pids[name])


@contextmanager
def another_user(
    state_dir: Path,
    need: str = "redis,postgres",
    *,
    python: str = sys.executable,
    packages_first: Path | None = None,
    environment: Mapping[str, str] | None = None,
    uid: int | None = None,
    prefix: tuple[str, ...] = (),
) -> Iterator[OtherProcess]:
    """Start a process that acquires servers and keeps them until the end of the block, or until it is killed."""
    path = [str(part) for part in (packages_first, REPOSITORY, os.environ.get("PYTHONPATH")) if part]
    process = subprocess.Popen(
        [*prefix, python, "-W", "error", "-c", PROGRAM, str(state_dir), need],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **(environment or {})},
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )
    with process:  # closes its standard input, upon which it ends
        yield OtherProcess(process)


def is_alive(pid: int) -> bool:
    """Whether a process of this pid does anything; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids_of(lease: ServerLease) -> list[int]:
    """The pids of all servers of a lease."""
    return [server.pid for server in lease.servers if server.pid is not None]


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of these processes is there."""
    wait_until(lambda: not any(map(is_alive, pids)), saying=f"none of {pids} is alive")
