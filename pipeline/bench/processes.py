"""Worker processes of a measurement: started, watched from outside, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson
import psutil

from pipeline.bench.stages import Work

_STOP_WITHIN_S = 20.0


class Usage(NamedTuple):
    """What processes have used: processor time in seconds since their start, resident memory in bytes now."""

    cpu_s: float
    rss_bytes: int


def usage_of(pids: Iterable[int]) -> Usage:
    """The usage of processes, added up."""
    cpu_s, rss_bytes = 0.0, 0
    for pid in pids:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            cpu_s += times.user + times.system
            rss_bytes += process.memory_info().rss
    return Usage(cpu_s, rss_bytes)


class WorkerProcess:
    """One worker; a context that ends it, however the measurement ends."""

    def __init__(
        self, url: str, namespace: str, work: Work, *, keys: int, partitions: int, name: str, lease_s: float
    ) -> None:
        self.name = name
        arguments = [url, namespace, work, str(keys), str(partitions), name, str(lease_s)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.bench.worker_process", *arguments], stdout=subprocess.PIPE
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def until_running(self) -> None:
        """Wait until everything is loaded and the worker works."""
        said = await asyncio.to_thread(self._read_line)
        if said != b"running":
            msg = f"{self.name} ended before it began; what it said is above"
            raise RuntimeError(msg)

    async def stop(self) -> dict[str, Any]:
        """Let it finish and give back its partitions; answers its counts."""
        self._process.send_signal(signal.SIGTERM)
        said, _ = await asyncio.to_thread(self._process.communicate, timeout=_STOP_WITHIN_S)
        counts: dict[str, Any] = orjson.loads(said.splitlines()[-1])
        return counts

    def kill(self) -> None:
        """Kill -9; it is gone when this returns."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as closing:
            if self._process.stdout is not None:
                closing.callback(self._process.stdout.close)
            if self._process.poll() is None:
                self.kill()

    def _read_line(self) -> bytes:
        if self._process.stdout is None:
            return b""
        return self._process.stdout.readline().strip()
