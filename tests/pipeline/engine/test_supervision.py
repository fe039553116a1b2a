"""A routine is started again with growing pauses, and stops in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pipeline.engine import supervision
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.supervision import Routine
from tests.polling import eventually


@asynccontextmanager
async def started(run: Callable[[], Awaitable[None]], **settings: Any) -> AsyncIterator[Routine]:
    routine = Routine("test", run, **settings)
    await routine.start()
    try:
        yield routine
    finally:
        await routine.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(supervision, "LONGEST_PAUSE_S", 0.1)


class Failing:
    """Fails so many times, then goes on for ever."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self._left = times
        self._error = error or RuntimeError("broken")
        self.started_at: list[float] = []

    async def __call__(self) -> None:
        self.started_at.append(time.monotonic())
        if self._left:
            self._left -= 1
            raise self._error
        await asyncio.Event().wait()

    @property
    def pauses(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.started_at, self.started_at[1:], strict=False)]


async def test_pauses_grow_up_to_the_longest() -> None:
    run = Failing(12)  # the last pause would be 40 seconds
    async with started(run) as routine:
        await eventually(lambda: len(run.started_at) == 13, saying="it is started again twelve times")
        assert routine.restarts == 12
        assert routine.trouble == ""
    assert all(pause >= least for pause, least in zip(run.pauses, (0.02, 0.04, 0.08, *9 * [0.1]), strict=True))


async def test_after_a_steady_time_the_pauses_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "STEADY_S", 0.0)
    monkeypatch.setattr(supervision, "LONGEST_PAUSE_S", 60.0)
    run = Failing(12)
    async with started(run):
        await eventually(lambda: len(run.started_at) == 13, saying="twelve short pauses are over")


async def test_its_trouble_shows_while_it_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 30.0)
    async with started(Failing(1)) as routine:
        await eventually(lambda: routine.trouble == "RuntimeError: broken", saying="the trouble shows")
        began = time.monotonic()
    assert time.monotonic() - began < 10, "a pause does not hold up the end"


async def test_something_cancelled_inside_is_a_failure_and_not_the_end() -> None:
    run = Failing(1, asyncio.CancelledError())
    async with started(run) as routine:
        await eventually(lambda: len(run.started_at) == 2, saying="it is started again")
        assert routine.restarts == 1


async def test_a_fatal_error_ends_it_and_is_told() -> None:
    told: list[BaseException] = []
    run = Failing(1, LookupError("gone"))
    async with started(run, fatal=(LookupError,), on_fatal=told.append) as routine:
        await eventually(lambda: told, saying="it is told")
        assert routine.trouble == "gone"
    assert len(run.started_at) == 1


async def test_it_may_come_to_its_end_by_itself() -> None:
    runs = 0

    async def once() -> None:
        nonlocal runs
        runs += 1

    async with started(once) as routine:
        await eventually(lambda: runs, saying="it ran")
    assert (runs, routine.restarts) == (1, 0)


async def test_it_is_asked_to_stop_before_it_is_made_to() -> None:
    asked = asyncio.Event()
    finished: list[str] = []

    async def run() -> None:
        try:
            await asked.wait()
            finished.append("in hand")
        except asyncio.CancelledError:
            finished.append("cancelled")
            raise

    async with started(run, stop=asked.set):
        pass
    assert finished == ["in hand"] or finished == []

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            finished.append("cancelled")
            raise

    async with started(deaf, stop=lambda: None, stop_within_s=0.1):
        await eventually(lambda: True, saying="it runs")
        began = time.monotonic()
    assert time.monotonic() - began < 10


async def test_what_does_not_even_end_when_it_is_cancelled_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()
    runs = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            runs.set()
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    routine = Routine("stubborn", stubborn, stop_within_s=0.1)
    await routine.start()
    await runs.wait()
    began = time.monotonic()
    await routine.stop()
    assert time.monotonic() - began < 10
    assert "stubborn does not stop" in caplog.text
    release.set()


async def test_an_outage_that_the_mesh_tells_of_is_not_told_again_by_each_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Failing(2, MeshUnavailableError("away"))
    async with started(run) as routine:
        await eventually(lambda: len(run.started_at) == 3, saying="it is started again twice")
        assert routine.restarts == 2
    assert [record.message for record in caplog.records if "failed and is started again" in record.message] == []
