"""The cable between a client and a Redis: it can be cut, hang, lead to another server, or tell something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.outages.own_redis import OwnRedis


class Cable:
    """Passes bytes on, until told otherwise.

    Attributes:
        cut: connections break, and new ones are refused.
        hangs: whatever is sent arrives nowhere.
        rewrites: what to replace in answers, by something of the same length.
    """

    def __init__(self, server: OwnRedis) -> None:
        self._server = server
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut = False
        self.hangs = False
        self.rewrites: dict[bytes, bytes] = {}

    def break_off(self) -> None:
        """Break the connections there are, and refuse others."""
        self.cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def lead_to(self, server: OwnRedis) -> None:
        """Break the connections there are; new ones reach another server."""
        self.break_off()
        self._server = server
        self.cut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._server.socket)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        answers = asyncio.create_task(self._pass_on(server_reader, writer, self.rewrites))
        await self._pass_on(reader, server_writer, {})
        answers.cancel()
        self._writers -= {writer, server_writer}
        for each in (writer, server_writer):
            each.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rewrites: dict[bytes, bytes]
    ) -> None:
        try:
            while data := await reader.read(1 << 20):
                if self.hangs:
                    continue  # what is lost on the way does not come later
                for old, new in rewrites.items():
                    data = data.replace(old, new)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()


@asynccontextmanager
async def cable_to(server: OwnRedis, folder: Path) -> AsyncIterator[tuple[Cable, str]]:
    """A cable, and the address of its end."""
    cable = Cable(server)
    path = folder / "cable.sock"
    listening = await asyncio.start_unix_server(cable.serve, path)
    try:
        yield cable, f"unix://{path}?db=0"
    finally:
        cable.break_off()
        listening.close()
        await listening.wait_closed()
