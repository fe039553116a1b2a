"""The host's supervisor: starts, stops and watches units, as systemd would with the restart policy "no".

Nothing is ever restarted by itself: repairs are the operator's.  Operations are synchronous, idempotent and done one
after the other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from select import select
from threading import Event, RLock, Thread
from typing import Literal, NamedTuple

from pipeline.patient.logfile import LogFile, timestamp
from pipeline.patient.loopback import Document, RequestRefusedError
from pipeline.patient.spawning import MainThread
from pipeline.patient.unit import UnitOrder

State = Literal["running", "stopped", "failed"]
"""`stopped`: ended because it was asked to, or never started.  `failed`: ended without being asked to."""

READY_WITHIN_S = 10.0
TERM_BEFORE_KILL_S = 1.0
"""A hung web service does not react to TERM; waiting longer only makes the outage longer."""


class UnitDefinition(NamedTuple):
    """What a unit runs: the program's module and what it is told (`lifeline` and `ready` are filled in at the start)."""

    module: str
    order: UnitOrder


class UnitFailedError(RequestRefusedError):
    """The unit ended before it was ready."""

    def __init__(self, reason: str) -> None:
        super().__init__(500, reason)


def exit_status(returncode: int) -> int:
    """A process's return code the way a shell tells it: 128 + n for death by signal n."""
    return 128 - returncode if returncode < 0 else returncode


def _told(returncode: int) -> str:
    name = f" ({signal.Signals(-returncode).name})" if returncode < 0 else ""
    return f"status {exit_status(returncode)}{name}"


class Unit:
    """One supervised program: at most one process at a time."""

    def __init__(self, name: str, definition: UnitDefinition) -> None:
        self.name = name
        self.definition = definition
        self.state: State = "stopped"
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None
        self.since = timestamp()
        self.asked_to_end = False
        self.ended = Event()
        self.ended.set()

    def enter(self, state: State) -> None:
        """Change the state now."""
        self.state, self.since = state, timestamp()

    def described(self) -> Document:
        """As the control API shows it."""
        pid = self.process.pid if self.process is not None and self.state == "running" else None
        return {"name": self.name, "state": self.state, "pid": pid, "exit_code": self.exit_code, "since": self.since}


class Supervisor:
    """All units of the host.

    Args:
        lifeline: the end of a pipe that units read from; its other end lives and dies with the host.
        on_change: called after every change of a unit's state.
    """

    def __init__(
        self,
        definitions: Mapping[str, UnitDefinition],
        *,
        lifeline: int,
        interpreter: tuple[str, ...],
        environment: Mapping[str, str],
        main_thread: MainThread,
        log: LogFile,
        on_change: Callable[[], None],
    ) -> None:
        self._units = {name: Unit(name, definition) for name, definition in definitions.items()}
        self._lifeline = lifeline
        self._environment = environment
        self._interpreter = interpreter
        self._main_thread = main_thread
        self._log = log
        self._on_change = on_change
        self._closing = False
        self.operating = RLock()
        """Held while an operation is going on; whoever signals a unit takes it, so that it cannot be half started."""

    def units(self) -> list[Document]:
        """All units as the control API shows them; never waits for an operation."""
        return [unit.described() for unit in self._units.values()]

    def unit(self, name: str) -> Unit:
        """Look a unit up.

        Raises:
            RequestRefusedError: 404, there is none of this name.
        """
        try:
            return self._units[name]
        except KeyError:
            raise RequestRefusedError(
                404, f"unit {name!r} is unknown, expected one of {', '.join(self._units)}"
            ) from None

    def start(self, name: str) -> Document:
        """Start a unit and wait until it is ready; nothing happens if it runs already."""
        with self.operating:
            unit = self.unit(name)
            if unit.state != "running":
                self._await_ready(unit, self._spawn(unit))
            return unit.described()

    def start_all(self, names: list[str]) -> None:
        """Start several units side by side and wait until all are ready."""
        with self.operating:
            spawned = [(unit, self._spawn(unit)) for unit in map(self.unit, names)]
            for unit, ready in spawned:
                self._await_ready(unit, ready)

    def stop(self, name: str) -> Document:
        """End a unit with TERM, after a second with KILL; nothing happens if it does not run."""
        with self.operating:
            unit = self.unit(name)
            self._end(unit, TERM_BEFORE_KILL_S)
            return unit.described()

    def kill(self, name: str) -> Document:
        """End a unit with KILL at once; nothing happens if it does not run."""
        with self.operating:
            unit = self.unit(name)
            self._end(unit, 0.0)
            return unit.described()

    def restart(self, name: str) -> Document:
        """Stop a unit if it runs, and start it."""
        with self.operating:
            self.stop(name)
            return self.start(name)

    def send(self, name: str, signal_number: signal.Signals) -> None:
        """Send a signal to a running unit.

        Raises:
            RequestRefusedError: 409, it does not run.
        """
        with self.operating:
            unit = self.unit(name)
            if unit.state != "running" or unit.process is None:
                raise RequestRefusedError(409, f"unit {name} is {unit.state}, expected running: start it first")
            unit.process.send_signal(signal_number)

    def end_all(self, within_s: float) -> None:
        """End everything: TERM to all, and KILL to their process groups when the time is over."""
        self._closing = True
        with self.operating:
            running = [unit for unit in self._units.values() if unit.state == "running"]
            for unit in running:
                unit.asked_to_end = True
                self._signal_group(unit, signal.SIGTERM)
            deadline = time.monotonic() + within_s
            for unit in running:
                unit.ended.wait(max(0.0, deadline - time.monotonic()))
            for unit in running:
                self._end(unit, 0.0)

    def _spawn(self, unit: Unit) -> int:
        """Start the process and its watcher; returns the pipe on which it will say that it is ready."""
        if self._closing:
            raise RequestRefusedError(503, "the host is ending and starts nothing any more")
        module, order = unit.definition
        ready, to_us = os.pipe()
        arranged = order._replace(lifeline=self._lifeline, ready=to_us)
        unit.ended.clear()
        unit.asked_to_end = False

        def fork() -> subprocess.Popen[bytes]:
            with order.log_path.open("ab") as errors:
                return subprocess.Popen(
                    [*self._interpreter, "-m", module, arranged.argument()],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    env=dict(self._environment),
                    pass_fds=(self._lifeline, to_us),
                    start_new_session=True,
                )

        try:
            unit.process = self._main_thread.do(fork)
        except BaseException:
            unit.ended.set()
            os.close(ready)
            raise
        finally:
            os.close(to_us)
        unit.enter("running")
        unit.exit_code = None
        Thread(target=self._watch, args=(unit, unit.process), name=f"watch {unit.name}", daemon=True).start()
        return ready

    def _await_ready(self, unit: Unit, ready: int) -> None:
        with os.fdopen(ready, "rb", buffering=0) as pipe:
            readable, _, _ = select([pipe], [], [], READY_WITHIN_S)
            said = pipe.read(1) if readable else b""
        if not said:
            self._end(unit, 0.0)
            raise UnitFailedError(
                f"unit {unit.name} ended with status {unit.exit_code} or said nothing for {READY_WITHIN_S:.0f} s "
                f"instead of getting ready: its reason is in {unit.definition.order.log}"
            )
        self._log.write("INFO", f"unit {unit.name} started", pid=unit.described()["pid"])
        self._on_change()

    def _watch(self, unit: Unit, process: subprocess.Popen[bytes]) -> None:
        returncode = process.wait()
        unit.exit_code = exit_status(returncode)
        if unit.asked_to_end:
            unit.enter("stopped")
            self._log.write("INFO", f"unit {unit.name} stopped with {_told(returncode)}", pid=process.pid)
        else:
            unit.enter("failed")
            self._log.write("ERROR", f"unit {unit.name} exited with {_told(returncode)}", pid=process.pid)
        unit.ended.set()
        self._on_change()

    def _end(self, unit: Unit, term_for_s: float) -> None:
        if unit.state != "running":
            if unit.state == "failed":
                unit.enter("stopped")  # from now on it is down because that is wanted
            return
        unit.asked_to_end = True
        if term_for_s:
            self._signal_group(unit, signal.SIGTERM)
        if not unit.ended.wait(term_for_s):
            self._signal_group(unit, signal.SIGKILL)
            unit.ended.wait()

    @staticmethod
    def _signal_group(unit: Unit, signal_number: signal.Signals) -> None:
        if unit.process is None or unit.ended.is_set():
            return  # its number may belong to somebody else by now
        with suppress(ProcessLookupError):  # it was quicker; its watcher will say so
            os.killpg(unit.process.pid, signal_number)
