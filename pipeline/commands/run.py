"""``aiops run``: everything in one process, on embedded servers when no others are set."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson

from pipeline.assembly import FATAL, Deployment, deployed, servers
from pipeline.commands.chosen_stages import chosen_stages
from pipeline.console.screen import LiveScreen, PlainScreen, Screen, screen_for
from pipeline.console.watch import Watch
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.listening import listen_to_host, listen_to_services, open_door, patient_admitted, patient_processes
from pipeline.loading import load_topology
from pipeline.patient.fate import FAULTS
from pipeline.patient.ward import Patient
from pipeline.settings import Settings, settings
from pipeline.trial import SYSTEM, Trial
from topology.errors import UsageError

FIRST_FAULT_AFTER_S = 6.0
NEXT_FAULT_AFTER_S = 30.0
_SHOW_EVERY_S = 0.25
_COUNT_LAG_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked for on the command line."""

    topology: Path | None
    stages: str | None
    with_patient: bool
    once: bool
    faults: tuple[str, ...]
    as_json: bool
    logs: tuple[tuple[str, str], ...]
    probes: tuple[tuple[str, str], ...]


@click.command("run")
@click.option("--topology", type=click.Path(path_type=Path), help="Topology file; the one that ships by default.")
@click.option("--stages", help="Run only these stages (comma-separated ids).")
@click.option("--with-patient", is_flag=True, help="Start the patient, a service that really breaks, and repair it.")
@click.option("--once", is_flag=True, help="With --with-patient: let the faults happen once, then stop and report.")
@click.option("--faults", default="crash", show_default=True, help=f"Which: {', '.join(FAULTS)}, or all.")
@click.option("--log", "logs", multiple=True, metavar="SERVICE=GLOB", help="Follow these log files of a service.")
@click.option("--probe", "probes", multiple=True, metavar="SERVICE=URL", help="Ask this health page of a service.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; progress goes to stderr.")
def run(
    topology: Path | None, stages: str | None, with_patient: bool, once: bool, faults: str,
    logs: Sequence[str], probes: Sequence[str], as_json: bool,
) -> None:  # fmt: skip
    """Run everything in this process until Ctrl-C."""
    if once and not with_patient:
        msg = "--once needs --with-patient: it reports how the patient's faults were repaired"
        raise UsageError(msg)
    options = RunOptions(
        topology, stages, with_patient, once, _faults(faults), as_json,
        tuple((service, str(Path(glob).absolute())) for service, glob in (_pair(log, "--log") for log in logs)),
        tuple(_page(probe) for probe in probes),
    )  # fmt: skip
    sys.exit(asyncio.run(_run(options, settings())))


async def _run(options: RunOptions, chosen: Settings) -> int:
    topology = load_topology(options.topology)
    stages = chosen_stages(options.stages, topology)
    screen: Screen = screen_for(sys.stdout) if not options.as_json else PlainScreen(sys.stderr)
    stopping = _stop_on_signals()
    async with AsyncExitStack() as stack:
        stack.callback(screen.close)
        addresses = await stack.enter_async_context(servers(chosen, screen.say))
        deployment = await stack.enter_async_context(deployed(chosen, topology, addresses, stages=stages))
        door = await open_door(deployment)
        screen.say(f"door {door.url}: alerts, events and changes are taken here")
        await listen_to_services(deployment, options.logs, options.probes)
        await listen_to_host(deployment, patient_processes() if options.with_patient else ())
        watch = Watch(deployment.mesh, topology)
        await deployment.start(deployment.routine("watch", watch.run))
        showing = asyncio.create_task(_keep_showing(screen, watch, deployment))
        stack.callback(showing.cancel)
        patient = None
        if options.with_patient:
            patient = await stack.enter_async_context(patient_admitted(deployment, door))
            screen.say(f"patient {SYSTEM}: http://127.0.0.1:{patient.info.ports['ledger']}/health")
        return await _until_done(options, deployment, patient, watch, stopping)


async def _until_done(
    options: RunOptions, deployment: Deployment, patient: Patient | None, watch: Watch, stopping: asyncio.Event
) -> int:
    work: set[asyncio.Future[int]] = {asyncio.create_task(_until_set(stopping)), deployment.failure}
    if patient is not None:
        trial = Trial(deployment, patient, watch)
        work.add(asyncio.create_task(_once(trial, options) if options.once else _for_ever(trial)))
    try:
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        return max(task.result() for task in done)
    finally:
        for task in work:
            task.cancel()


async def _once(trial: Trial, options: RunOptions) -> int:
    report = await trial.run(options.faults)
    if options.as_json:
        sys.stdout.write(orjson.dumps(report.as_json()).decode() + "\n")
    return 0 if report.passed else 1


async def _for_ever(trial: Trial) -> int:
    await trial.ready()
    await asyncio.sleep(FIRST_FAULT_AFTER_S)
    for fault in cycle(FAULTS):
        await trial.strike(fault)
        await asyncio.sleep(NEXT_FAULT_AFTER_S)
    raise AssertionError


async def _until_set(stopping: asyncio.Event) -> int:
    await stopping.wait()
    return 0


async def _keep_showing(screen: Screen, watch: Watch, deployment: Deployment) -> None:
    clock = asyncio.get_running_loop()
    lag, counted_s = "lag ?", float("-inf")
    while True:
        await watch.news(1.0)
        if clock.time() - counted_s >= _COUNT_LAG_EVERY_S:
            lag, counted_s = await _lag(deployment), clock.time()
        screen.show(watch.current, watch.pulse, _status(watch, deployment, lag))
        if isinstance(screen, LiveScreen):
            await asyncio.sleep(_SHOW_EVERY_S)


async def _lag(deployment: Deployment) -> str:
    try:
        return f"lag {await deployment.lag()}"
    except (MeshUnavailableError, *FATAL):
        return "lag ?"


def _status(watch: Watch, deployment: Deployment, lag: str) -> str:
    parts = [
        f"AI-Ops Core · {deployment.topology.name}",
        f"{watch.pulse.events_per_s:.0f} events/s",
        lag,
        f"{watch.dead_letters} dead letters",
        *deployment.trouble,
    ]
    return " · ".join(parts)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _faults(text: str) -> tuple[str, ...]:
    names = FAULTS if text == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in FAULTS]
    if unknown or not names:
        msg = f"found faults {text!r}, expected some of {', '.join(FAULTS)} (comma-separated), or all"
        raise UsageError(msg)
    return names


def _page(text: str) -> tuple[str, str]:
    service, url = _pair(text, "--probe")
    try:
        found = urlsplit(url)
        usable = found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
    except ValueError:  # of a port that is none
        usable = False
    if not usable:
        msg = f"found --probe {text!r}, expected an address such as http://127.0.0.1:8080/health behind {service}="
        raise UsageError(msg)
    return service, url


def _pair(text: str, option: str) -> tuple[str, str]:
    service, found, value = text.partition("=")
    if not (service and found and value):
        msg = f"found {option} {text!r}, expected SERVICE=..., such as {option} shop=..."
        raise UsageError(msg)
    return service, value
