"""The machine the patient lives on: its units, its deployer, its customers, put together."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from pipeline.patient import durable
from pipeline.patient.announcements import Announcer
from pipeline.patient.deployer import Deployer
from pipeline.patient.fees import GOOD_CONFIGURATION
from pipeline.patient.logfile import LogFile
from pipeline.patient.loopback import LOOPBACK, Document, Endpoint, NoAnswerError, RequestRefusedError, ask
from pipeline.patient.spawning import MainThread
from pipeline.patient.supervisor import Supervisor, UnitDefinition
from pipeline.patient.traffic import Customers
from pipeline.patient.unit import UnitOrder, bare_environment, interpreter

WEB, STORE, REPORT = "ledger", "ledger-store", "ledger-report"
PROGRAMS = {STORE: "pipeline.patient.store", WEB: "pipeline.patient.web", REPORT: "pipeline.patient.report"}
UNITS = tuple(PROGRAMS)
RELOADED_WITHIN_S = 1.0
ENDED_WITHIN_S = 0.8
VERBS = ("start", "stop", "restart", "kill")


class Machine:
    """Everything the host runs.

    Args:
        home: the directory all of it lives in.
        door: where changes are announced, if anywhere.
        main_thread: forks the units.
        on_change: called whenever a unit's state changes.
    """

    def __init__(
        self, home: Path, *, door: Endpoint | None, main_thread: MainThread, on_change: Callable[[], None]
    ) -> None:
        logs = home / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        self.logs = {name: logs / f"{name}.log" for name in (*UNITS, "supervisor")}
        self.changes = home / "changes.jsonl"
        self._reservations = {name: _reserve_port() for name in (WEB, STORE)}
        self.ports = {name: int(held.getsockname()[1]) for name, held in self._reservations.items()}
        if sys.platform != "linux":  # other systems do not let two sockets bind one port: the number alone must do
            for held in self._reservations.values():
                held.close()
        self._wanted_file = home / "units.json"
        self._wanted: dict[str, bool] = {STORE: True, WEB: True, REPORT: False} | durable.load(self._wanted_file, {})
        self._log = LogFile(self.logs["supervisor"], "supervisor")
        self._lifeline, self._life = os.pipe()  # `_life` is never written to: that it is open is the message
        self.deployer = Deployer(
            WEB,
            ledger=home / "deployments.json",
            target=home / f"{WEB}.json",
            first=GOOD_CONFIGURATION,
            reload=self._reload,
            announce=Announcer(door, self.changes, self._log).announce,
        )
        self.supervisor = Supervisor(
            {name: self._definition(name) for name in UNITS},
            lifeline=self._lifeline,
            interpreter=interpreter(),
            environment=bare_environment(),
            main_thread=main_thread,
            log=self._log,
            on_change=on_change,
        )
        self.customers = Customers(self.ports[WEB])

    def start(self) -> None:
        """Start what is wanted, and let the customers in."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a unit that crashes on purpose leaves no core file
        self._log.write("INFO", "host started")
        self.supervisor.start_all([name for name in UNITS if self._wanted[name]])
        self.customers.arrive()

    def end(self) -> None:
        """End all units; what is wanted stays as it is, for the next start."""
        self.supervisor.end_all(ENDED_WITHIN_S)
        self._log.write("INFO", "host ended")

    def operate(self, name: str, verb: str) -> Document:
        """Start, stop, restart or kill a unit, and remember what is wanted from now on."""
        if verb not in VERBS:
            raise RequestRefusedError(404, f"units cannot {verb!r}, expected one of {', '.join(VERBS)}")
        supervisor = self.supervisor
        supervisor.unit(name)
        operations = {
            "start": supervisor.start,
            "stop": supervisor.stop,
            "restart": supervisor.restart,
            "kill": supervisor.kill,
        }
        with supervisor.operating:
            self._wanted[name] = verb in ("start", "restart")
            durable.store(self._wanted_file, self._wanted)
            return operations[verb](name)

    def _definition(self, name: str) -> UnitDefinition:
        order = UnitOrder(
            name=name,
            log=str(self.logs[name]),
            port=self.ports.get(name, 0),
            store_port=0 if name == STORE else self.ports[STORE],
            configuration=str(self.deployer.target) if name == WEB else "",
            lifeline=-1,
            ready=-1,
        )
        return UnitDefinition(PROGRAMS[name], order)

    def _reload(self, version: int) -> bool:
        """Let the web service read its configuration; false when it does not, because it is down or hangs."""
        try:
            self.supervisor.send(WEB, signal.SIGHUP)
        except RequestRefusedError:
            return False
        deadline = time.monotonic() + RELOADED_WITHIN_S
        while time.monotonic() < deadline:
            try:
                if ask(self.ports[WEB], "GET", "/health", timeout_s=RELOADED_WITHIN_S).document["version"] == version:
                    return True
            except (NoAnswerError, KeyError):
                return False
            time.sleep(0.01)
        return False

    def health(self, name: str) -> bool:
        """Whether a unit's health page says that all is well."""
        try:
            return ask(self.ports[name], "GET", "/health", timeout_s=1.0).status == HTTPStatus.OK
        except NoAnswerError:
            return False


def _reserve_port() -> socket.socket:
    """A port of our own: bound but not listening.

    The unit binds it as well and listens; while it is down, connections are refused, and nobody else gets the port.
    So a unit keeps its address over restarts, and a crashed one cannot be mistaken for a hung one.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, 0))
    return held
