"""`python -m pipeline.patient.host --home DIR [--door URL]`: the patient's machine as a process.

It lives as long as its standard input stays open (a pipe from whoever started it), and its units live no longer than
it does.  When all is running it writes `patient.json` into its home: how to reach and control it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from pathlib import Path
from threading import Event, RLock, Thread
from typing import IO

from pipeline.patient import durable
from pipeline.patient.answers import AnsweredOnce
from pipeline.patient.control import Control
from pipeline.patient.fate import FAULTS, Fate
from pipeline.patient.loopback import LOOPBACK, Endpoint, LoopbackServer, RequestRefusedError, endpoint
from pipeline.patient.machine import Machine
from pipeline.patient.spawning import MainThread

EXIT_OCCUPIED = 75
"""Somebody else lives in this home; the same call may succeed later (EX_TEMPFAIL)."""


class Registration:
    """`patient.json`: kept up to date while the host is ready, gone when it is not."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = RLock()
        self._publish: tuple[Machine, str, str] | None = None
        file.unlink(missing_ok=True)  # left by a host that was killed

    def open(self, machine: Machine, control_url: str, token: str) -> None:
        """Publish from now on."""
        with self._lock:
            self._publish = (machine, control_url, token)
            self.refresh()

    def refresh(self) -> None:
        """Write it anew; nothing happens before `open` and after `close`."""
        with self._lock:
            if self._publish is None:
                return
            machine, control_url, token = self._publish
            pids = {unit["name"]: unit["pid"] for unit in machine.supervisor.units() if unit["pid"] is not None}
            document = {
                "control_url": control_url,
                "token": token,
                "ports": machine.ports,
                "logs": {name: str(path) for name, path in machine.logs.items()},
                "changes": str(machine.changes),
                "pids": {"host": os.getpid(), **pids},
                "faults": FAULTS,
            }
            durable.store(self._file, document)

    def close(self) -> None:
        """Withdraw it."""
        with self._lock:
            self._publish = None
            self._file.unlink(missing_ok=True)


def occupy(home: Path) -> IO[str]:
    """Take possession of a home until the process ends.

    Raises:
        BlockingIOError: another host lives there; the message names it.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (home / "host.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        occupant = lock.read().strip() or "unknown"
        raise BlockingIOError(
            f"a host already lives in {home} (process {occupant}): stop it, or choose another home"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def live(home: Path, door: Endpoint | None) -> None:
    """Run the machine until standard input ends, or TERM or INT comes."""
    main_thread = MainThread()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: main_thread.leave())
    Thread(target=_watch_standard_input, args=(main_thread,), name="standard input", daemon=True).start()

    registration = Registration(home / "patient.json")
    machine = Machine(home, door=door, main_thread=main_thread, on_change=registration.refresh)
    token = os.urandom(24).hex()
    control = Control(machine, Fate(machine), AnsweredOnce(home / "answers.json"), token)
    server = LoopbackServer(0, control.respond)
    machine.start()
    Thread(target=server.serve_forever, name="control", daemon=True).start()
    registration.open(machine, f"http://{LOOPBACK}:{server.server_port}", token)
    main_thread.serve()

    registration.close()
    ended = Event()

    def end() -> None:
        machine.end()
        ended.set()
        main_thread.leave()

    # In another thread, because an operation that is going on may still need this one to fork.
    Thread(target=end, name="end").start()
    while not ended.is_set():  # a second TERM makes `serve` return early
        main_thread.serve()


def _watch_standard_input(main_thread: MainThread) -> None:
    while os.read(0, 4096):
        pass
    main_thread.leave()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.patient.host", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the directory it lives in; made if missing")
    parser.add_argument("--door", type=endpoint, help="an http:// URL to which changes are announced")
    options = parser.parse_args()
    try:
        lock = occupy(options.home.resolve())
    except BlockingIOError as error:
        parser.exit(EXIT_OCCUPIED, f"{error}\n")
    with lock:
        try:
            live(options.home.resolve(), options.door)
        except RequestRefusedError as refusal:
            sys.exit(str(refusal))


if __name__ == "__main__":
    main()
