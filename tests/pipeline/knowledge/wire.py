"""A wire to Postgres that a test can cut: an outage without harming the server that other tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, quote, urlsplit


class Wire:
    """Carries bytes between a local port and the server; while it is cut, connections are dropped and refused.

    While it is clogged, they stay open and nothing comes through: what a frozen server or a lost network looks like.
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._query = parse_qs(parts.query)
        self._parts = parts
        self._server: asyncio.Server | None = None
        self._port = 0
        self._carrying: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def url(self) -> str:
        """The database by way of this wire."""
        user, password = self._parts.username or "", self._parts.password
        who = quote(user) + (f":{password}" if password else "")
        return f"postgresql://{who}@127.0.0.1:{self._port}{self._parts.path}"

    async def mend(self) -> None:
        """Carry again, on the same port."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def clog(self) -> None:
        """Let nothing through from now on."""
        self._flows.clear()

    def unclog(self) -> None:
        """Let everything through, also what was held back."""
        self._flows.set()

    async def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        far_reader, far_writer = await self._reach_server()
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (asyncio.CancelledError, ConnectionError):
            # The end of a connection is what this is for.
            pass
        finally:
            self._carrying.discard(task)
            for end in (writer, far_writer):
                end.transport.abort()

    async def _reach_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = self._query.get("host", [self._parts.hostname or "127.0.0.1"])[0]
        port = int(self._query.get("port", [str(self._parts.port or 5432)])[0])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


@asynccontextmanager
async def wire_to(database_url: str) -> AsyncIterator[Wire]:
    wire = Wire(database_url)
    await wire.mend()
    try:
        yield wire
    finally:
        await wire.cut()
