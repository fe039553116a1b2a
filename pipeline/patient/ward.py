"""Where the patient is looked after: starts the host for `aiops run --with-patient` and ends it again.

::

    async with admit(home, door_url) as patient:
        await patient.fault("crash")
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipeline.patient.fate import FAULTS
from pipeline.patient.host import EXIT_OCCUPIED
from pipeline.patient.unit import bare_environment, interpreter
from topology.errors import ConfigurationError, RefusedError, RetryableError

READY_WITHIN_S = 15.0
READY_POLL_S = 0.01
ENDS_WITHIN_S = 1.8
CONTROL_TIMEOUT_S = 15.0


class HomeOccupiedError(ConfigurationError):
    """Another host lives in this home: end it, or choose another home."""


class PatientUnavailableError(RetryableError):
    """The host did not start, or has ended; admitting the patient anew may help."""


class PatientRefusedError(RefusedError):
    """The host said no: the message has its reason."""


@dataclass(frozen=True)
class PatientInfo:
    """How to reach the patient.  Addresses, token and file names stay the same as long as the host lives.

    Attributes:
        ports: of `ledger` and `ledger-store`, on 127.0.0.1.
        logs: the log file of each unit and of `supervisor`.
        changes: the journal of announced changes, one CloudEvent per line.
        pids: as they were at the start; `Patient.units` has those of now.
    """

    home: Path
    control_url: str
    token: str = field(repr=False)
    ports: Mapping[str, int]
    logs: Mapping[str, Path]
    changes: Path
    pids: Mapping[str, int]
    faults: tuple[str, ...] = FAULTS


@dataclass(frozen=True)
class UnitState:
    """One unit as the supervisor sees it; `state` is `running`, `stopped` (on purpose) or `failed`."""

    name: str
    state: str
    pid: int | None
    exit_code: int | None
    since: str


class Patient:
    """The admitted patient, for the trial; the loop itself uses telemetry and the control API only."""

    def __init__(self, info: PatientInfo, client: httpx.AsyncClient) -> None:
        self.info = info
        self._client = client

    async def units(self) -> list[UnitState]:
        """All units as they are now."""
        return [UnitState(**unit) for unit in await self._ask("GET", "/units")]

    async def traffic(self) -> dict[str, int]:
        """The customers' experience: `transfers`, `failed`, `failed_in_a_row`."""
        counts: dict[str, int] = await self._ask("GET", "/traffic")
        return counts

    async def fault(self, name: str) -> None:
        """Let one of `info.faults` happen; it has happened when this returns.

        Raises:
            PatientRefusedError: there is no such fault, or what it would break is down.
            PatientUnavailableError: the host does not answer.
        """
        await self._ask("POST", f"/faults/{name}")

    async def heal(self) -> None:
        """Make the patient well, whatever happened to it.

        Raises:
            PatientUnavailableError: the host does not answer, or the patient is not well afterwards.
        """
        healed = await self._ask("POST", "/faults/heal")
        if not healed["healed"]:
            raise PatientUnavailableError(f"the patient is ill after healing: see {self.info.logs['supervisor']}")

    async def _ask(self, method: str, path: str) -> Any:
        try:
            response = await self._client.request(method, path)
        except httpx.TransportError as error:
            raise PatientUnavailableError(f"the patient's host does not answer {method} {path}: {error!r}") from error
        if response.is_error:
            raise PatientRefusedError(f"{method} {path}: {response.json()['error']}")
        return response.json()


@asynccontextmanager
async def admit(home: Path, door_url: str | None = None) -> AsyncIterator[Patient]:
    """Start the patient in its home; it is ready inside the context, and gone within two seconds after it.

    The patient keeps its configuration and the wanted state of its units in `home`.  If this process is killed, the
    patient ends as well.

    Args:
        home: a directory of its own; made if it is missing.
        door_url: an `http://` URL that takes structured CloudEvents; changes are announced there.

    Raises:
        HomeOccupiedError: another host lives in this home.
        PatientUnavailableError: it did not get ready; the message has its last words.
    """
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            *interpreter(),
            *("-m", "pipeline.patient.host", "--home", str(home)),
            *(("--door", door_url) if door_url else ()),
            stdin=asyncio.subprocess.PIPE,  # its end tells the host to end, also when we are killed
            stdout=complaints,
            stderr=complaints,
            env=bare_environment(),
            start_new_session=True,  # Ctrl-C is for us; we tell the host
        )
        try:
            if not await _ready(process, home):
                complaints.seek(0)
                raise _not_admitted(process.returncode, complaints.read().decode(errors="replace").strip())
            info = _info(home)
            async with httpx.AsyncClient(
                base_url=info.control_url,
                headers={"Authorization": f"Bearer {info.token}"},
                timeout=CONTROL_TIMEOUT_S,
                trust_env=False,  # a proxy has no business on loopback
            ) as client:
                yield Patient(info, client)
        finally:
            await _end(process)


async def _ready(process: asyncio.subprocess.Process, home: Path) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_WITHIN_S
    while process.returncode is None and loop.time() < deadline:
        # Another host's file says nothing about ours.
        if _registered(home).get("pids", {}).get("host") == process.pid:
            return True
        await asyncio.sleep(READY_POLL_S)
    return False


def _registered(home: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads((home / "patient.json").read_bytes())
    except FileNotFoundError:
        return {}
    return document


def _info(home: Path) -> PatientInfo:
    registered = _registered(home)
    return PatientInfo(
        home=home,
        control_url=registered["control_url"],
        token=registered["token"],
        ports=registered["ports"],
        logs={name: Path(path) for name, path in registered["logs"].items()},
        changes=Path(registered["changes"]),
        pids=registered["pids"],
    )


def _not_admitted(exit_code: int | None, last_words: str) -> Exception:
    if exit_code == EXIT_OCCUPIED:
        return HomeOccupiedError(last_words)
    ended = f"ended with {exit_code}" if exit_code is not None else f"was not ready within {READY_WITHIN_S:.0f} s"
    return PatientUnavailableError(f"the patient's host {ended}: {last_words or 'it said nothing'}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its standard input; a host that takes too long is killed, and its units with it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
