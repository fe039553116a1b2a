"""The real PostgreSQL under the knowledge sink, killed in the middle of a transaction."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import asyncpg

from pipeline.knowledge.migrate import migrate
from pipeline.knowledge.upserts import WRITERS_LOCK
from pipeline.servers import acquire, stop
from pipeline.servers.server_dir import existing_server_dir
from tests.polling import eventually

_IN_THE_MIDDLE = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'aiops' AND xact_start IS NOT NULL AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""


class Postgres:
    """The product's own server, guard included, with the schema of the knowledge."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self.url = url

    async def kill_in_a_transaction(self, *, postmaster: bool) -> None:
        """Hold up the sink in the middle of a transaction, and kill the server, or its process for the sink, there."""
        connection = await self._connect()
        await connection.execute("SELECT pg_advisory_lock($1)", WRITERS_LOCK)
        backend = await eventually(
            lambda: connection.fetchval(_IN_THE_MIDDLE), saying="the sink is in the middle", within_s=30
        )
        running = existing_server_dir(self._folder, "postgres").running()
        assert running is not None
        os.kill(running.pid if postmaster else backend, signal.SIGKILL)
        connection.terminate()
        await eventually(self._works, saying="PostgreSQL is there again", within_s=60)

    async def incidents(self) -> dict[UUID, UUID]:
        """What the sink kept: by incident, the event that told of it."""
        connection = await self._connect()
        try:
            return {row["id"]: row["event"] for row in await connection.fetch("SELECT id, event FROM incidents")}
        finally:
            await connection.close()

    async def _works(self) -> bool:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await self._connect()
            await connection.close()
            return True
        return False

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(self.url, timeout=5)


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    """A server of its own in this folder, stopped afterwards."""
    with await asyncio.to_thread(acquire, folder, need=frozenset({"postgres"})) as lease:
        url = lease.database_url
        assert url is not None
        await migrate(url)
        try:
            yield Postgres(folder, url)
        finally:
            await asyncio.to_thread(stop, folder)
