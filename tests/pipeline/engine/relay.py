"""A relay in front of a real Redis that can lose answers, refuse connections, or go silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Relay:
    """Passes bytes on, until told otherwise."""

    def __init__(self, server_url: str) -> None:
        self._server = unquote(urlsplit(server_url).path)
        self._writers: set[asyncio.StreamWriter] = set()
        self._lose_answer_to = b""
        self.lost = 0
        self.refusing = False

    def lose_the_answer_to(self, command: bytes) -> None:
        """The next request that contains these bytes reaches the server; its connection breaks before the answer."""
        self._lose_answer_to = command

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        self._writers |= {writer, server_writer}
        answers = asyncio.create_task(self._pass_on(server_reader, writer))
        try:
            while data := await reader.read(1 << 20):
                server_writer.write(data)
                await server_writer.drain()
                if self._lose_answer_to and self._lose_answer_to in data:
                    self._lose_answer_to = b""
                    answers.cancel()
                    await asyncio.wait({answers})
                    await server_reader.read(1)  # the server has done it
                    self.lost += 1
                    return
        except ConnectionError:
            return
        finally:
            answers.cancel()
            self._writers -= {writer, server_writer}
            for each in (writer, server_writer):
                each.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 20):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()


@asynccontextmanager
async def relayed(redis_url: str, folder: Path) -> AsyncIterator[tuple[Relay, str]]:
    """A relay and its address."""
    relay = Relay(redis_url)
    path = folder / "relay.sock"
    server = await asyncio.start_unix_server(relay.serve, path)
    try:
        yield relay, f"unix://{path}?db=0"
    finally:
        relay.cut()
        server.close()
        await server.wait_closed()
