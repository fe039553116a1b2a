"""Looking at embedded servers, and stopping them, without starting any: for ``aiops doctor`` and ``make clean``."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.servers import postgres_server, redis_server
from pipeline.servers.errors import ServerFailedError, ServersError, StateDirUnusableError, end_of_log
from pipeline.servers.guard import READY_POLL_S, STOP_WITHIN_S
from pipeline.servers.lease import SERVER_NAMES, ServerInfo, ServerName
from pipeline.servers.programs import ProgramRunner
from pipeline.servers.server_dir import ServerDir, existing_server_dir

# SIGTERM would make PostgreSQL wait for its clients to go.
STOP_SIGNALS: dict[ServerName, signal.Signals] = {"redis": signal.SIGTERM, "postgres": signal.SIGINT}


@dataclass(frozen=True)
class ServerProblem:
    """Why a server is not to be had.

    Attributes:
        what: what was found and what to do, in sentences.
    """

    name: ServerName
    what: str


def inspect(state_dir: Path) -> tuple[ServerInfo | ServerProblem, ...]:
    """What runs in a state directory, where and why; what would run there, or why nothing could.

    Starts nothing, makes nothing, and never raises a ``ServersError``: what is wrong is the answer.
    """
    return tuple(_look_at(name, state_dir.absolute()) for name in SERVER_NAMES)


def stop(state_dir: Path) -> None:
    """Stop the servers of a state directory now, whoever uses them, and wait until they are gone.

    Raises:
        ServerFailedError: one is still there after a time that is long for a stop.
        StateDirUnusableError: it is somebody else's.
    """
    for name in SERVER_NAMES:
        # No account is looked up: what runs must be stoppable, whosever the data is.
        home = ServerDir(name, state_dir.absolute() / name, account=None)
        try:
            _stop(name, home)
        except PermissionError as refused:
            raise StateDirUnusableError(
                f"The {name} server in {home.path} is somebody else's ({refused.strerror}). Stop it as its owner, or set "
                "AIOPS_STATE_DIR to a directory of yours."
            ) from refused


def _stop(name: ServerName, home: ServerDir) -> None:
    _signal(home.guard_pid(), signal.SIGTERM)
    if home.guard_pid() is None:
        _signal(home.server_pid(), STOP_SIGNALS[name])  # its guard was killed where the kernel does not tell it
    give_up_at = time.monotonic() + 2 * STOP_WITHIN_S
    while home.guard_pid() is not None or home.server_pid() is not None:
        if time.monotonic() > give_up_at:
            raise ServerFailedError(
                f"The {name} server in {home.path} does not stop (guard {home.guard_pid()}, server "
                f"{home.server_pid()}). {end_of_log(home.guard_log)}"
            )
        time.sleep(READY_POLL_S)


def _signal(pid: int | None, number: int) -> None:
    if pid:  # 0: it has the lock and has not said who it is; the caller waits
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _look_at(name: ServerName, state_dir: Path) -> ServerInfo | ServerProblem:
    try:
        home = existing_server_dir(state_dir, name)
        running = home.running()
        if running is None:
            return _would_run(home, name)
    except ServersError as problem:
        return ServerProblem(name, str(problem))
    except PermissionError as refused:
        return ServerProblem(name, f"{refused.filename} cannot be read: it is somebody else's. Ask as its owner.")
    memory = _memory_bytes(running.pid, running.guard_pid)
    return ServerInfo(
        name, running.engine, running.version, running.pid, Path(running.socket), home.data, running.why, memory
    )


def _would_run(home: ServerDir, name: ServerName) -> ServerInfo | ServerProblem:
    if home.guard_pid() is not None:
        return ServerProblem(
            name, f"The server in {home.path} is starting, stopping or hanging. {end_of_log(home.log)}"
        )
    runner = ProgramRunner(home.account)
    engine = redis_server.find(home, runner) if name == "redis" else postgres_server.find_all(home, runner)[0]
    return ServerInfo(name, engine.family, engine.version, None, home.data, home.data, engine.why)


def _memory_bytes(server: int, guard: int) -> int | None:
    """Proportional set size of the server's processes and the guard's."""
    try:
        processes = [psutil.Process(guard), psutil.Process(server), *psutil.Process(server).children(recursive=True)]
        return sum(process.memory_full_info().pss for process in processes)
    except (psutil.Error, AttributeError):  # gone meanwhile, not ours, or a system without that figure
        return None
