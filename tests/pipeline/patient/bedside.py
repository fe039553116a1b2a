"""How tests look at the patient: a host of their own as a real process, its control API, and what is running."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.patient.loopback import Answer, NoAnswerError, ask
from pipeline.patient.unit import bare_environment, interpreter
from tests.polling import wait_until

HEALTH_TIMEOUT_S = 1.0
"""As the loop's probe has it: slower than this is no answer."""


@dataclass(frozen=True)
class Health:
    """One look at a health page; status 0: there was no answer."""

    status: int
    took_ms: float
    page: dict[str, Any]


class Host:
    """A host process started by the test."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [*interpreter(), "-m", "pipeline.patient.host", "--home", str(home), *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=bare_environment(),
        )
        self._key = 0
        wait_until(self._ready, saying="the host is ready", seen=self.process.poll)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        file = self.home / "patient.json"
        return file.exists() and self.registered["pids"]["host"] == self.process.pid

    @property
    def registered(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.home / "patient.json").read_bytes())
        return document

    def control(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None = None, token: str = ""
    ) -> Answer:
        """Send a control request."""
        registered = self.registered
        headers = {"Authorization": f"Bearer {token or registered['token']}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        port = int(registered["control_url"].rpartition(":")[2])
        return ask(port, method, path, body, timeout_s=10, headers=headers)

    def post(self, path: str, body: dict[str, Any] | None = None, *, key: str | None = None) -> dict[str, Any]:
        """Send a control request that has to succeed."""
        answer = self.control("POST", path, body, key=key)
        assert answer.status == 200, answer
        document: dict[str, Any] = answer.document
        return document

    def unit(self, name: str) -> dict[str, Any]:
        """One unit as the supervisor shows it."""
        units: list[dict[str, Any]] = self.control("GET", "/units").document
        return next(unit for unit in units if unit["name"] == name)

    def health(self, name: str = "ledger") -> Health:
        """Look at a health page once."""
        began = time.monotonic()
        try:
            status, page = ask(self.registered["ports"][name], "GET", "/health", timeout_s=HEALTH_TIMEOUT_S)
        except NoAnswerError as error:
            status, page = 0, {"error": str(error)}
        return Health(status, (time.monotonic() - began) * 1000, page)

    def log(self, name: str) -> str:
        """All that a unit has logged."""
        return Path(self.registered["logs"][name]).read_text(encoding="utf-8")

    def stop(self) -> None:
        """End it as its owner would, and see that it obeys."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        self.process.wait(3)
        self.process.stderr.close()

    def kill(self) -> None:
        """End it as nobody should."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def processes_of(home: Path) -> list[psutil.Process]:
    """Everything that runs for this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        ours = any(str(home) in argument for argument in process.info["cmdline"] or [])
        if ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def memory_mb(pid: int) -> float:
    """A process's resident memory."""
    return psutil.Process(pid).memory_info().rss / 1e6
