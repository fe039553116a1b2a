"""The hand of fate: makes the patient ill, for the trial only.

The loop never learns these names; it sees what they do.  Nothing here writes them to a log.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from pipeline.patient.fees import BAD_CONFIGURATION, is_sound
from pipeline.patient.loopback import Document, RequestRefusedError
from pipeline.patient.machine import REPORT, STORE, WEB, Machine

FAULTS = ("crash", "hang", "leak", "bad-config", "eater", "backend-lost")


class Fate:
    """What can befall the machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._strokes: dict[str, Callable[[], object]] = {
            "crash": lambda: self._signal(WEB, signal.SIGSEGV),
            "hang": lambda: self._signal(WEB, signal.SIGUSR1),
            "leak": lambda: self._signal(WEB, signal.SIGUSR2),
            "bad-config": self._deploy_a_mistake,
            "eater": lambda: machine.operate(REPORT, "start"),
            "backend-lost": lambda: self._signal(STORE, signal.SIGKILL),
        }

    def strike(self, fault: str) -> Document:
        """Let a fault happen now.

        Raises:
            RequestRefusedError: 404, no such fault; 409, it cannot happen because what it would break is down.
        """
        if fault not in self._strokes:
            raise RequestRefusedError(404, f"fault {fault!r} is unknown, expected one of {', '.join(FAULTS)} or heal")
        self._strokes[fault]()
        return {"fault": fault}

    def heal(self) -> Document:
        """Make everything well again, whatever happened."""
        machine = self._machine
        machine.operate(REPORT, "stop")
        machine.operate(STORE, "start")
        while not is_sound(machine.deployer.content):
            machine.deployer.go_to(machine.deployer.version_before())
        # Always anew: whether the web service hangs or leaks is not visible from outside in time.
        machine.operate(WEB, "restart")
        return {"healed": machine.health(WEB)}

    def _signal(self, unit: str, signal_number: signal.Signals) -> None:
        supervisor = self._machine.supervisor
        with supervisor.operating:
            supervisor.send(unit, signal_number)
            if signal_number in (signal.SIGSEGV, signal.SIGKILL):
                supervisor.unit(unit).ended.wait()  # so that the answer comes after the fact

    def _deploy_a_mistake(self) -> None:
        deployer = self._machine.deployer
        if is_sound(deployer.content):  # else one mistake would hide another, and no single rollback would cure
            deployer.roll_out(BAD_CONFIGURATION, "fees of the new season")
