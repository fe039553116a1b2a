"""A TCP proxy between a worker and its server: the network, as far as we can break it without being root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Proxy:
    """Passes bytes on, until told otherwise.

    Args:
        port: where the server listens now; asked for each new connection, so that a failover can move it.

    Attributes:
        lost_answers: how many requests were done, as far as the server knows, and not answered.
        held: how many requests were held up on their way.
    """

    def __init__(self, port: Callable[[], int]) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._answering = asyncio.Event()
        self._passing.set()
        self._answering.set()
        self._refusing = False
        self._deafen_after = b""
        self._hold_from = b""
        self._server: asyncio.Server | None = None
        self.port = 0
        self.lost_answers = 0
        self.held = 0

    async def start(self) -> None:
        """Listen on a port of the loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._refusing = True
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Let nothing through in either direction, and tell nobody: a cable that was pulled."""
        self._passing.clear()

    def deafen_after(self, request: bytes) -> None:
        """The next request that contains these bytes gets through, but from then on no answers."""
        self._deafen_after = request

    def hold_from(self, request: bytes) -> None:
        """The next request that contains these bytes, and all that follows, is on its way until the network heals."""
        self._hold_from = request

    def heal(self) -> None:
        """Pass everything on again."""
        self._refusing = False
        self._deafen_after = b""
        self._hold_from = b""
        self._passing.set()
        self._answering.set()

    async def stop(self) -> None:
        """Close everything."""
        self.cut()
        self.heal()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            self._close(writer)
            return
        self._writers.add(server_writer)
        try:
            await asyncio.gather(
                self._pass_on(reader, server_writer, answers=False), self._pass_on(server_reader, writer, answers=True)
            )
        finally:
            self._close(writer)
            self._close(server_writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                if not answers and self._hold_from and self._hold_from in data:
                    self._hold_from = b""
                    self._passing.clear()
                    self.held += 1
                await self._passing.wait()
                if answers and not self._answering.is_set():
                    self.lost_answers += 1
                    await self._answering.wait()
                if not answers and self._deafen_after and self._deafen_after in data:
                    self._deafen_after = b""
                    self._answering.clear()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()
