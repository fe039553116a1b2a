"""Which sources a deployment listens to: this host, the door, log files and health pages, and the patient."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pipeline.assembly import Deployment, add_supervisor
from pipeline.patient.ward import Patient, admit
from pipeline.sources.host import HostSource, WatchedProcess
from pipeline.sources.logs import LogFiles, LogSource
from pipeline.sources.probes import Probe, ProbeSource

PATIENT_SERVICES = ("ledger", "ledger-store")
"""Those with a health page; the batch job has none."""


async def listen_to_host(deployment: Deployment, processes: Iterable[WatchedProcess] = ()) -> None:
    """Sample this machine, and the processes of the services that run on it."""
    await deployment.add_source("host", HostSource(host=socket.gethostname(), processes=tuple(processes)))


async def listen_to_services(
    deployment: Deployment, logs: Iterable[tuple[str, str]], probes: Iterable[tuple[str, str]]
) -> None:
    """Follow log files, and ask health pages, given as (service, pattern) and (service, URL)."""
    files = [LogFiles(str(Path(pattern).absolute()), service) for service, pattern in logs]
    if files:
        await deployment.add_source("logs", LogSource(files, positions=_positions(deployment, "logs")))
    pages = [Probe(service, url) for service, url in probes]
    if pages:
        await deployment.add_source("probes", ProbeSource(pages))


@asynccontextmanager
async def patient_admitted(deployment: Deployment, door_url: str | None) -> AsyncIterator[Patient]:
    """Start the patient, listen to it as to any other system, and let repairs reach its supervisor."""
    home = deployment.settings.state_dir / "patient"
    async with admit(home, door_url) as patient:
        info = patient.info
        add_supervisor(deployment.executors, info.control_url, info.token)
        files = [LogFiles(str(path), unit) for unit, path in info.logs.items()]
        logs = LogSource(files, positions=_positions(deployment, "patient-logs"), name="patient-logs")
        pages = [Probe(service, f"http://127.0.0.1:{info.ports[service]}/health") for service in PATIENT_SERVICES]
        await deployment.add_source("patient logs", logs)
        await deployment.add_source("patient probes", ProbeSource(pages, name="patient-probes"))
        yield patient


def _positions(deployment: Deployment, name: str) -> Path:
    return deployment.settings.state_dir / "positions" / f"{name}.json"
