"""The patient as `aiops run --with-patient` admits it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pipeline.patient.ward import (
    HomeOccupiedError,
    Patient,
    PatientRefusedError,
    PatientUnavailableError,
    admit,
)
from tests.pipeline.patient.bedside import processes_of
from tests.polling import eventually


async def _state(patient: Patient, name: str) -> tuple[str, int | None]:
    return next((unit.state, unit.exit_code) for unit in await patient.units() if unit.name == name)


async def test_an_admitted_patient_can_fall_ill_be_healed_and_is_gone_afterwards(tmp_path: Path) -> None:
    async with admit(tmp_path / "home") as patient:
        assert set(patient.info.ports) == {"ledger", "ledger-store"}
        assert all(log.exists() for name, log in patient.info.logs.items() if name != "ledger-report")
        assert patient.info.token not in repr(patient.info)

        await patient.fault("crash")
        assert await _state(patient, "ledger") == ("failed", 139)
        await patient.heal()
        assert await _state(patient, "ledger") == ("running", None)
        assert (await patient.traffic())["transfers"] >= 1
        with pytest.raises(PatientRefusedError, match="plague"):
            await patient.fault("plague")
        began = time.monotonic()

    assert time.monotonic() - began < 10
    assert processes_of(tmp_path) == []


async def test_a_home_has_room_for_one(tmp_path: Path) -> None:
    async with admit(tmp_path / "home") as patient:
        with pytest.raises(HomeOccupiedError, match="already lives in"):
            async with admit(tmp_path / "home"):
                pass
        assert await _state(patient, "ledger") == ("running", None)


async def test_a_host_that_does_not_start_leaves_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "logs").write_text("in the way", encoding="utf-8")

    with pytest.raises(PatientUnavailableError, match="FileExistsError"):
        async with admit(tmp_path / "home"):
            pass


async def test_a_host_that_died_is_told_as_such(tmp_path: Path) -> None:
    async with admit(tmp_path / "home") as patient:
        for process in processes_of(tmp_path):
            if process.pid == patient.info.pids["host"]:
                process.kill()
        with pytest.raises(PatientUnavailableError, match="does not answer"):
            await patient.fault("crash")
        await eventually(lambda: not processes_of(tmp_path), saying="its units are gone with it", within_s=2)


async def test_cancelling_the_admission_leaves_nothing_running(tmp_path: Path) -> None:
    async def stay() -> None:
        async with admit(tmp_path / "home"):
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await eventually(lambda: processes_of(tmp_path), saying="the host is starting")

    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying

    assert processes_of(tmp_path) == []
