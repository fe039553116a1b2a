"""Worker processes as seen from outside: started, killed, stalled; what they say is heard."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline
from pipeline.servers.guard import dying_with_its_parent
from tests.chaos.proxy import Proxy
from tests.chaos.worker_process import LOST_WRITES
from tests.polling import eventually

LEASE_S = 1.5
_REPOSITORY = Path(pipeline.__file__).parents[1]


class WorkerProcess:
    """One worker.

    Attributes:
        proxy: the network between it and the server; None when it has a network namespace of its own.
        said: the last thing it said.
        fenced: how often it was refused so far.
    """

    def __init__(self, name: str, proxy: Proxy | None, log: Path) -> None:
        self.name = name
        self.proxy = proxy
        self.said: dict[str, Any] = {}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None

    async def start(self, url: str, *, database_url: str = "", within: Sequence[str] = ()) -> None:
        """Start it; it begins to work when it can.

        Args:
            within: a command that runs it somewhere else (a network namespace).
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*within, sys.executable, "-m", "tests.chaos.worker_process"),
                *(url, "c", self.name, str(LEASE_S), database_url),
                cwd=_REPOSITORY,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=dying_with_its_parent(signal.SIGKILL),
            )
        self._hearing = asyncio.create_task(self._hear(self._process))

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def commits(self) -> int:
        """How many it has made, as far as it could say."""
        return int(self.said.get("commits", 0))

    @property
    def fenced(self) -> int:
        """How often it was refused, as far as it could say."""
        return int(self.said.get("fenced", 0))

    @property
    def lost_writes(self) -> str:
        """What it said of writes its server lost; empty when it said nothing."""
        return str(self.said.get("lost_writes", ""))

    def send(self, number: int) -> None:
        """A signal."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    async def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self.alive:
            self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self, within_s: float = 20) -> int:
        """Ask it to end; answers its exit code."""
        if self.alive:
            self.send(signal.SIGTERM)
        await eventually(lambda: not self.alive, saying=f"{self.name} ends", within_s=within_s, seen=self.last_words)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end and hear its last words; answers its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        if self._hearing is not None:
            await self._hearing
        return code

    def last_words(self) -> str:
        """What it said last, and the end of its log."""
        return f"{self.said} {self._log.read_text(errors='replace')[-800:]}"

    def end_is_expected(self, code: int) -> bool:
        """Whether it ended as it should: asked to (even before it began), killed by us, or because writes were lost."""
        return code in (0, LOST_WRITES, -signal.SIGKILL) or (code == -signal.SIGTERM and not self.said)

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self.said = json.loads(line)
