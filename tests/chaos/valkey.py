"""A Valkey server of our own, to be killed, starved and cut off."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import redis

from pipeline.servers.engines import redis_engines
from pipeline.servers.guard import dying_with_its_parent
from pipeline.servers.programs import ProgramRunner, server_environment
from tests.polling import eventually


@cache
def program() -> Path:
    """The server that the product itself would start."""
    return next(redis_engines(ProgramRunner(None))).program


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """One server on the loopback, in a folder of its own.

    Args:
        fsync: the append-only file's policy (``always``, ``everysec``), or "" for a server that keeps nothing.
        bind: more addresses to listen on.
    """

    def __init__(self, folder: Path, *, fsync: str = "everysec", bind: str = "") -> None:
        self.port = free_port()
        self.folder = folder
        self._settings = {
            "port": str(self.port),
            "bind": f"127.0.0.1 {bind}".strip(),
            "protected-mode": "no",
            "dir": str(folder),
            "save": "",
            "appendonly": "yes" if fsync else "no",
            "appendfsync": fsync or "everysec",
            "auto-aof-rewrite-percentage": "0",
            "repl-diskless-sync-delay": "0",
            "repl-timeout": "5",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(port=self.port, socket_timeout=5)

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start, on the data that is there; returns when it answers."""
        self._spawn()
        await eventually(self.answers, saying="the server answers", within_s=30, seen=self.last_words)

    def _spawn(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [part for name, value in self._settings.items() for part in (f"--{name}", *(value.split() or [""]))]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program()), *arguments],
                env=server_environment(),
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_its_parent(signal.SIGKILL),
            )

    def answers(self) -> bool:
        """Whether it takes commands now."""
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        """SIGKILL: nothing is written any more that has not been written."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Stop it for a while, or let it go on."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        self.client.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_words(self) -> str:
        """The end of its log."""
        return (self.folder / "server.log").read_text(errors="replace")[-600:]
