"""Which sources a deployment listens to: this host, the door, log files and health pages, and the patient."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pipeline.assembly import Deployment, add_supervisor
from pipeline.patient.ward import Patient, admit
from pipeline.sources.door import Door
from pipeline.sources.host import HostSource
from pipeline.sources.journal import Keeping
from pipeline.sources.logs import LogFiles, LogSource
from pipeline.sources.probes import Probe, ProbeSource
from pipeline.sources.processes import WatchedProcess
from topology.errors import ConfigurationError

EVENTS_PATH = "/v1/events"
PROBED_UNITS = ("ledger", "ledger-store")
"""Units of the patient with a health page; the batch job has none."""

PROMISED = Keeping("refuse")
"""Whoever posts is told that it is taken, so it is kept, or else refused with 503 for the sender to try again."""
IN_FILES = Keeping("wait")
"""The log files keep it, and are read on when the mesh is back."""
PROBED = Keeping("drop", priority=2)
SAMPLED = Keeping("drop", priority=1)

_UNIT_MODULES = {"ledger": "web", "ledger-store": "store", "ledger-report": "report"}


async def open_door(deployment: Deployment) -> Door:
    """Open the HTTP door; a default port that is taken is no reason not to start, one that was asked for is.

    Raises:
        ConfigurationError: the port of the settings cannot be had.
    """
    chosen = deployment.settings
    token = chosen.door_token.get_secret_value() if chosen.door_token else None
    door = Door(host=chosen.door_host, port=chosen.door_port, token=token)
    try:
        door.listen()
    except ConfigurationError:
        if "door_port" in chosen.model_fields_set:
            raise
        door = Door(host=chosen.door_host, port=0, token=token)
        door.listen()
    await deployment.add_source("door", door, PROMISED)
    return door


async def listen_to_host(deployment: Deployment, processes: Iterable[WatchedProcess] = ()) -> None:
    """Sample this machine, and the processes of the services that run on it."""
    await deployment.add_source("host", HostSource(host=socket.gethostname(), processes=tuple(processes)), SAMPLED)


async def listen_to_services(
    deployment: Deployment, logs: Iterable[tuple[str, str]], probes: Iterable[tuple[str, str]]
) -> None:
    """Follow log files, and ask health pages, given as (service, absolute pattern) and (service, URL)."""
    files = [LogFiles(pattern, service) for service, pattern in logs]
    if files:
        await deployment.add_source("logs", LogSource(files, positions=_positions(deployment, "logs")), IN_FILES)
    pages = [Probe(service, url) for service, url in probes]
    if pages:
        await deployment.add_source("probes", ProbeSource(pages), PROBED)


def patient_processes() -> list[WatchedProcess]:
    """The patient's processes, by the modules they run."""
    return [WatchedProcess(unit, f"*-m pipeline.patient.{module} *") for unit, module in _UNIT_MODULES.items()]


@asynccontextmanager
async def patient_admitted(deployment: Deployment, door: Door) -> AsyncIterator[Patient]:
    """Start the patient, listen to it as to any other system, and let repairs reach its supervisor."""
    home = deployment.settings.state_dir / "patient"
    async with admit(home, f"{door.url}{EVENTS_PATH}") as patient:
        info = patient.info
        add_supervisor(deployment.executors, info.control_url, info.token)
        files = [LogFiles(str(path), unit) for unit, path in info.logs.items()]
        logs = LogSource(files, positions=_positions(deployment, "patient-logs"), name="patient-logs")
        pages = [Probe(service, f"http://127.0.0.1:{info.ports[service]}/health") for service in PROBED_UNITS]
        await deployment.add_source("patient logs", logs, IN_FILES)
        await deployment.add_source("patient probes", ProbeSource(pages, name="patient-probes"), PROBED)
        yield patient


def _positions(deployment: Deployment, name: str) -> Path:
    return deployment.settings.state_dir / "positions" / f"{name}.json"
