"""The life of one unit's process: how it is told what to be, says that it is ready, and dies with its host."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pipeline

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


class UnitOrder(NamedTuple):
    """What the host tells a unit, as one JSON argument, so that `ps` shows it.

    `port` is where to listen, `store_port` where the store listens (0: not concerned).  `lifeline` is a pipe that
    ends when the host dies; `ready` is a pipe to say on that work can begin.
    """

    name: str
    log: str
    port: int
    store_port: int
    configuration: str
    lifeline: int
    ready: int

    def argument(self) -> str:
        """The order as the unit's command line argument."""
        return json.dumps(self._asdict())

    @property
    def log_path(self) -> Path:
        """Where the unit logs."""
        return Path(self.log)


def receive_order() -> UnitOrder:
    """Read the order from the command line and tie this process's life to the host's."""
    if len(sys.argv) != 2:
        sys.exit("this program is a unit of the patient: start it through `python -m pipeline.patient.host`")
    order = UnitOrder(**json.loads(sys.argv[1]))
    _die_with_the_host(order)
    return order


def interpreter() -> tuple[str, ...]:
    """How the patient's programs are run: without site-packages, which they do not need, in a third of the time."""
    return (sys.executable, "-S")


def bare_environment() -> dict[str, str]:
    """Only what these programs need: the operator's environment holds secrets that are none of their business."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    root = Path(pipeline.__file__).resolve().parent.parent
    return {**kept, "PYTHONPATH": str(root), "LC_ALL": "C.UTF-8"}


def say_ready(order: UnitOrder) -> None:
    """Tell the host that signals are handled and requests are answered from now on."""
    os.write(order.ready, b"ready\n")
    os.close(order.ready)


def _die_with_the_host(order: UnitOrder) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # The kernel's way also ends a process that is stopped; the lifeline below works on every system.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NAME, order.name.encode())  # so that process lists say `ledger`, not `python`
    Thread(target=_watch_lifeline, args=(order.lifeline,), name="lifeline", daemon=True).start()


def _watch_lifeline(lifeline: int) -> None:
    os.read(lifeline, 1)  # nobody writes: it returns when the host is gone
    os.kill(os.getpid(), signal.SIGKILL)  # not an orderly end, which a hung service would never reach
