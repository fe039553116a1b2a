"""A Redis of a test's own: to be killed, filled, cut off, and started again."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis

from pipeline.servers.engines import redis_engines
from pipeline.servers.programs import ProgramRunner, server_environment
from tests.polling import wait_until

PERSISTENT = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


@cache
def _program() -> Path:
    return next(iter(redis_engines(ProgramRunner(None)))).program


class OwnRedis:
    """One server on a Unix socket in a folder, and on a port when it is to have replicas."""

    def __init__(self, folder: Path, *, port: int = 0, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._settings = {
            "port": str(port), "bind": "127.0.0.1", "unixsocket": str(self.socket), "dir": str(folder), "save": "",
            "daemonize": "no", **PERSISTENT, **{name.replace("_", "-"): value for name, value in settings.items()},
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> OwnRedis:
        """Start it, and wait until it answers."""
        arguments = [part for name, value in self._settings.items() for part in (f"--{name}", value)]
        self.socket.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), *arguments],
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                restore_signals=False,  # a write beyond a limit shall fail, not kill it
            )
        wait_until(self._answers, saying="Redis answers", seen=lambda: (self.folder / "log").read_text())
        return self

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as its operator does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)

    def stall(self, *, stalled: bool = True) -> None:
        """Let it hang, or go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if stalled else signal.SIGCONT)

    def limit_files(self, size: int | None) -> None:
        """Let no file of it grow beyond a size, as on a disk that is full."""
        assert self._process is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client for the test's own eyes and hands."""
        client = redis.Redis(unix_socket_path=str(self.socket), protocol=2, decode_responses=True)
        try:
            yield client
        finally:
            client.close()

    def calls(self) -> int:
        """How many commands it has been given so far, those it rejected too."""
        with self.client() as client:
            stats = client.info("commandstats")
        return sum(each["calls"] + each.get("rejected_calls", 0) for each in stats.values())

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def own_redis(folder: Path, *, port: int = 0, **settings: str) -> Iterator[OwnRedis]:
    """A server that runs until the end of the block, whatever was done to it."""
    server = OwnRedis(folder, port=port, **settings).start()
    try:
        yield server
    finally:
        server.stall(stalled=False)
        server.kill()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        number: int = found.getsockname()[1]
        return number
