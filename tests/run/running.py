"""`aiops run` as a process of its own, with servers, patient and state of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.engine.keys import Keys
from pipeline.engine.record import Offset
from pipeline.servers import acquire
from tests.polling import wait_until

AIOPS = str(Path(sys.executable).with_name("aiops"))


class Run:
    """A running `aiops run` and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self.heard_at: list[float] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.heard_at.append(time.monotonic())
            self.said.append(line.rstrip())

    def hears(self, what: str, *, within_s: float = 60) -> str:
        """Wait until a line has these words; answers the first one."""

        def line() -> str | None:
            return next((said for said in self.said if what in said), None)

        found = wait_until(
            line, saying=f"aiops run says {what!r}", within_s=within_s, seen=lambda: "\n".join(self.said)
        )
        assert found is not None
        return found

    def report(self, *, within_s: float) -> dict[str, Any]:
        """Wait until it ends by itself; the JSON it printed."""
        assert self.process.stdout is not None
        wait_until(
            lambda: self.process.poll() is not None,
            saying="aiops run ends",
            within_s=within_s,
            seen=lambda: "\n".join(self.said),
        )
        self._reader.join(5)
        assert self.process.returncode == 0, "\n".join(self.said)
        report: dict[str, Any] = json.loads(self.process.stdout.read())
        return report

    def close(self) -> None:
        """Wait for the end and for the last words."""
        self.process.wait()
        self._reader.join(5)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait; answers how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - began


@contextmanager
def aiops_run(state_dir: Path, *arguments: str) -> Iterator[Run]:
    """Start `aiops run --json ARGUMENTS`; killed at the end when it still runs."""
    with subprocess.Popen(
        [AIOPS, "run", "--json", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AIOPS_STATE_DIR": str(state_dir), "AIOPS_DOOR_PORT": "0"},
    ) as process:
        run = Run(process)
        try:
            yield run
        finally:
            process.kill()
            run.close()


def processes_of(state_dir: Path) -> list[str]:
    """Command lines of processes that have to do with a state directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(state_dir) in line:
            found.append(line)
    return found


def nothing_is_left(state_dir: Path, *, within_s: float = 5) -> None:
    """Wait until no process of a run lives any more."""
    wait_until(
        lambda: not processes_of(state_dir),
        saying="nothing is left running",
        within_s=within_s,
        seen=lambda: processes_of(state_dir),
    )


def events_on(
    state_dir: Path, stream: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True
) -> list[dict[str, Any]]:
    """Everything on a stream of a deployment, in order, read from its Redis as anybody could."""
    import redis

    with acquire(state_dir, need=frozenset({"redis"})) as lease:
        assert lease.redis_url is not None
        client: Any = redis.Redis.from_url(lease.redis_url)
        found: list[tuple[Offset, dict[str, Any]]] = []
        for key in client.scan_iter(match=Keys("aiops").all_partitions(stream), _type="stream"):
            found += [(Offset.parse(offset), json.loads(fields[b"e"])) for offset, fields in client.xrange(key)]
        client.close()
    found.sort(key=lambda entry: entry[0])
    return [event for _, event in found if wanted(event)]
