"""This very machine is sampled, and real processes that live, eat and die."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from pipeline.sources.host import HostSource
from pipeline.sources.host_metrics import CounterRates, busy_share, writable_file_systems
from pipeline.sources.processes import ProcessWatch, WatchedProcess
from tests.pipeline.sources.published import Published
from tests.polling import eventually, wait_until
from topology.errors import RetryableError
from topology.payloads import MetricSampled

IDLE = "print(flush=True); import signal; signal.pause()"
BUSY = "print(flush=True)\nwhile True: pass"
LARGE = "held = b'x' * 60_000_000; print(flush=True); import signal; signal.pause()"
MARKER = f"marker-{os.getpid()}"
MARKED = WatchedProcess("eater", f"*{MARKER}")


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", code, MARKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert started.stdout is not None
        started.stdout.readline()  # it is ready
        yield started
    finally:
        started.kill()
        started.communicate()


@asynccontextmanager
async def sampled(source: HostSource) -> AsyncIterator[Published]:
    published = Published()
    running = asyncio.create_task(source.run(published))
    try:
        yield published
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def values(published: Published, metric: str) -> list[float]:
    return [sample.value for sample in published.payloads(MetricSampled) if sample.metric == metric]


def told(watch: ProcessWatch) -> dict[str, float]:
    return {sample.metric: sample.value for sample in watch.sample()}


async def test_the_machine_tells_how_it_is() -> None:
    async with sampled(HostSource(host="here", interval_s=0.1)) as published:
        await eventually(lambda: len(values(published, "system.network.io")) >= 4, saying="three rounds were sampled")
        await eventually(lambda: values(published, "system.filesystem.utilization"), saying="the disks were looked at")

    for share in ("cpu", "memory", "filesystem"):
        measured = values(published, f"system.{share}.utilization")
        assert measured, share
        assert all(0 <= value <= 1 for value in measured), share
    assert values(published, "system.cpu.load_average.1m")[0] >= 0
    samples = published.payloads(MetricSampled)
    assert {sample.service for sample in samples} == {"here"}
    assert {s.labels["direction"] for s in samples if s.metric == "system.network.io"} == {"receive", "transmit"}
    assert "/" in {s.labels["mountpoint"] for s in samples if s.metric == "system.filesystem.utilization"}


async def test_a_services_processes_are_told_and_their_end_is_noticed() -> None:
    source = HostSource(host="here", interval_s=3600, processes=[MARKED], process_interval_s=0.05)
    with process(LARGE) as large:
        async with sampled(source) as published:
            await eventually(
                lambda: max(values(published, "process.memory.usage"), default=0) > 60_000_000,
                saying="its memory is seen",
            )
            assert values(published, "process.up")[-1] == 1.0
            large.kill()
            await eventually(lambda: values(published, "process.up")[-1] == 0.0, saying="it is down")


def test_several_processes_of_a_service_are_summed() -> None:
    with process(LARGE), process(LARGE):
        assert told(ProcessWatch([MARKED]))["process.memory.usage"] > 120_000_000


def test_a_process_that_keeps_one_core_busy_uses_about_one() -> None:
    with process(BUSY):
        watch = ProcessWatch([MARKED])
        assert "process.cpu.utilization" not in told(watch)
        wait_until(lambda: 0.05 < told(watch).get("process.cpu.utilization", 0) < 1.3, saying="it is seen to be busy")


def test_a_process_that_ended_but_was_not_reaped_is_down_and_its_successor_is_found() -> None:
    watch = ProcessWatch([MARKED])
    with process(IDLE) as dying:
        assert told(watch)["process.up"] == 1.0
        dying.kill()
        wait_until(lambda: told(watch)["process.up"] == 0.0, saying="a zombie does not count")
        with process(IDLE):
            assert told(watch)["process.up"] == 1.0


def test_a_service_without_a_process_is_only_said_to_be_down() -> None:
    assert told(ProcessWatch([WatchedProcess("gone", "no such process")])) == {"process.up": 0.0}


def test_counters_become_rates_and_a_reset_says_nothing() -> None:
    rates = CounterRates()

    assert rates.per_s({"eth0": (100, 0)}, at_s=0.0) is None
    assert rates.per_s({"eth0": (300, 50), "eth1": (9_000, 9_000)}, at_s=2.0) == [100.0, 25.0]
    assert rates.per_s({"eth0": (10, 60), "eth1": (9_010, 9_000)}, at_s=3.0) == [10.0, 0.0]
    assert rates.per_s({"eth0": (9, 60)}, at_s=4.0) is None
    assert rates.per_s({"eth0": (9, 61)}, at_s=4.0) is None


@pytest.mark.parametrize(
    ("after", "share"),
    [
        ({"user": 1.0, "idle": 3.0}, 0.25),
        ({"user": 0.0, "idle": 2.0, "iowait": 2.0}, 0.0),
        ({"user": 2.0, "guest": 2.0, "idle": 0.0}, 1.0),
        ({"user": 0.0, "idle": 0.0}, None),
    ],
)
def test_waiting_is_not_being_busy_and_a_guests_time_counts_once(after: dict[str, float], share: float | None) -> None:
    assert busy_share(dict.fromkeys(after, 0.0), after) == share


def test_each_file_system_that_can_be_written_is_named_once() -> None:
    assert writable_file_systems(["/", "/", "/no/such/place"]) == ["/"]


async def test_a_mesh_that_is_away_ends_the_source_so_that_it_is_started_again() -> None:
    published = Published()
    published.away = True
    with pytest.raises(RetryableError):
        await HostSource(host="here", interval_s=0.05).run(published)


async def test_sampling_at_the_default_pace_takes_little_of_a_core() -> None:
    me = WatchedProcess("me", f"*{MARKER}")
    async with sampled(HostSource(host="here", processes=[me, WatchedProcess("none", "none")])) as published:
        await eventually(lambda: len(values(published, "process.up")) >= 4, saying="it has warmed up")
        cpu = os.times()
        await eventually(lambda: len(values(published, "process.up")) >= 12, saying="four seconds later")
        used_s = sum(os.times()[:2]) - sum(cpu[:2])

    assert used_s < 4 * 0.02 + 0.03  # what asking here every 0.2 s takes is in it
