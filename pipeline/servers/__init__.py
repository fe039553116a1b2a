"""Embedded servers: Valkey and PostgreSQL with pgvector, out of wheels, for a machine that has neither.

``acquire`` joins the servers of a state directory, or starts them; several processes share them.  A guard process per
server (``guard.py``) stops it when the last user is gone, also by kill -9, and restarts it when it dies.  Everything
lives in the state directory; servers listen on Unix sockets in private directories, never on the network; as root they
run as ``postgres`` or ``nobody``.  All calls block: from a coroutine, use a thread.

    with acquire(default_state_dir(os.environ), need=frozenset({"redis", "postgres"}), progress=print) as lease:
        redis.Redis.from_url(lease.redis_url)
        asyncpg.connect(lease.database_url)
"""

from __future__ import annotations

from pipeline.servers.accounts import default_state_dir as default_state_dir
from pipeline.servers.errors import CpuUnsupportedError as CpuUnsupportedError
from pipeline.servers.errors import DataDirBoundError as DataDirBoundError
from pipeline.servers.errors import EngineMissingError as EngineMissingError
from pipeline.servers.errors import ServerFailedError as ServerFailedError
from pipeline.servers.errors import ServersError as ServersError
from pipeline.servers.errors import StateDirUnusableError as StateDirUnusableError
from pipeline.servers.inspection import ServerProblem as ServerProblem
from pipeline.servers.inspection import inspect as inspect
from pipeline.servers.inspection import stop as stop
from pipeline.servers.lease import ServerInfo as ServerInfo
from pipeline.servers.lease import ServerLease as ServerLease
from pipeline.servers.lease import ServerName as ServerName
from pipeline.servers.lease import acquire as acquire
