"""Worker processes that are killed, stalled, and lose their server: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import pipeline
from agents.ports import ExecuteAction
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.supervision import Routine
from pipeline.engine.worker import Worker
from pipeline.servers import acquire
from tests.contracts.counting import Echo, line, sample, topology
from tests.pipeline.engine.working import events, idle, publish, running
from tests.polling import eventually

pytestmark = pytest.mark.servers
REPOSITORY = Path(pipeline.__file__).parents[1]
LEASE_S = 1.5


class WorkerProcess:
    """A worker that can be killed."""

    def __init__(self, url: str, name: str, asked: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.pipeline.engine.worker_process",
                url,
                "t",
                name,
                str(LEASE_S),
                str(asked),
                *options,
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.says("ready")

    def says(self, expected: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == expected

    def send(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def counts(self) -> dict[str, int]:
        """Stop it, and hear what it did."""
        self.send(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=20)
        counts: dict[str, int] = json.loads(out.splitlines()[-1])
        return counts

    def end(self) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, "t")
    yield mesh
    await mesh.close()


def start(started: ExitStack, url: str, name: str, asked: Path, *options: str) -> WorkerProcess:
    process = WorkerProcess(url, name, asked, *options)
    started.callback(process.end)
    return process


async def nothing_lost_nothing_double(mesh: RedisMesh, lines: int) -> None:
    graph = topology()
    await eventually(lambda: idle(mesh, graph), saying="everything is committed", within_s=20)
    numbered = [e for e in await events(mesh, graph, "numbered") if e.payload.kind == "answer"]
    assert len(numbered) == lines
    per_service: dict[str, list[float]] = {}
    for said in await events(mesh, graph, "numbered"):
        per_service.setdefault(said.payload.service, []).append(said.payload.score)
    assert all(scores == list(range(1, len(scores) + 1)) for scores in per_service.values())
    per_service.clear()
    for said in await events(mesh, graph, "findings"):
        if said.payload.kind == "answer":
            per_service.setdefault(said.payload.service, []).append(said.payload.value)
    assert all(values == list(range(1, len(values) + 1)) for values in per_service.values())


async def test_a_killed_worker_is_replaced_within_its_lease_and_a_second(
    redis_url: str, mesh: RedisMesh, started: ExitStack, tmp_path: Path
) -> None:
    graph = topology()
    doomed = start(started, redis_url, "doomed", tmp_path / "asked")
    two = Worker(mesh, graph, {ExecuteAction: Echo()}, name="two", lease_s=LEASE_S)
    async with running(two):
        await eventually(lambda: len(two.owned) in range(1, 9), saying="they share", seen=lambda: two.owned)
        for n in range(0, 200, 4):
            await publish(mesh, graph, [line(m, f"s{m % 20}", m) for m in range(n, n + 4)])
        doomed.send(signal.SIGKILL)
        killed = time.monotonic()
        await publish(mesh, graph, [line(n, f"s{n % 20}", n) for n in range(200, 400)])
        await eventually(lambda: idle(mesh, graph), saying="the other took over and did it all", seen=lambda: two.owned)
        assert time.monotonic() - killed < LEASE_S + 1
        assert len(two.owned) == 9
        await nothing_lost_nothing_double(mesh, 400)


async def test_a_stalled_worker_is_fenced_when_it_wakes_up(
    redis_url: str, mesh: RedisMesh, started: ExitStack, tmp_path: Path
) -> None:
    graph = topology()
    stalled = start(started, redis_url, "stalled", tmp_path / "asked")
    await publish(mesh, graph, [line(n, f"s{n % 20}", n) for n in range(100)])
    await eventually(lambda: idle(mesh, graph), saying="it works")
    stalled.send(signal.SIGSTOP)
    await publish(mesh, graph, [line(n, f"s{n % 20}", n) for n in range(100, 200)])
    two = Worker(mesh, graph, {ExecuteAction: Echo()}, name="two", lease_s=LEASE_S)
    async with running(two):
        await eventually(lambda: len(two.owned) == 9, saying="the other took over", seen=lambda: two.owned)
        await eventually(lambda: idle(mesh, graph), saying="what the stalled one left is done")
        stalled.send(signal.SIGCONT)
        await publish(mesh, graph, [line(n, f"s{n % 20}", n) for n in range(200, 300)])
        await eventually(lambda: len(two.owned) < 9, saying="the one that woke up gets its share again")
        await nothing_lost_nothing_double(mesh, 300)
        counts = stalled.counts()
    assert counts["fenced"] > 0, counts


async def test_an_answer_recorded_before_a_kill_is_not_asked_for_again(
    redis_url: str, mesh: RedisMesh, started: ExitStack, tmp_path: Path
) -> None:
    graph, asked = topology(), tmp_path / "asked"
    await publish(mesh, graph, [line(1, "a", 1)])
    doomed = start(started, redis_url, "doomed", asked, "--hang-after-answer")
    await asyncio.to_thread(doomed.says, "recorded")
    assert await events(mesh, graph, "findings") == []
    doomed.send(signal.SIGKILL)

    start(started, redis_url, "next", asked)
    await publish(mesh, graph, [line(2, "a", 2)])
    await nothing_lost_nothing_double(mesh, 2)
    assert Counter(asked.read_text().splitlines()) == {"line 1": 1, "line 2": 1}


async def test_a_server_that_restarts_costs_nothing(state_dir: Path) -> None:
    graph = topology()
    with await asyncio.to_thread(acquire, state_dir, need=frozenset({"redis"})) as lease:
        assert lease.redis_url is not None
        mesh = RedisMesh.connect(lease.redis_url, "t")
        echo = Echo()
        one = Worker(mesh, graph, {ExecuteAction: echo}, name="one", lease_s=LEASE_S)
        routine = Routine("worker", one.run, stop=one.stop)
        await routine.start()
        [server] = lease.servers
        assert server.pid is not None
        for n in range(0, 300, 3):
            if n == 150:
                os.kill(server.pid, signal.SIGKILL)
            some = [*(line(m, f"s{m % 20}", m) for m in range(n, n + 3)), sample(n, "counted", n)]
            await eventually(lambda some=some: published(mesh, some), saying="the server takes it")  # type: ignore[misc]
        await nothing_lost_nothing_double(mesh, 300)
        assert set(echo.asked.values()) == {1}
        counted = [e.payload.value for e in await events(mesh, graph, "numbered") if e.payload.kind == "count"]
        assert sum(counted) == len([n for n in range(0, 300, 3) if n < 290])
        assert routine.restarts > 0, "the worker did notice"
        await routine.stop()
        await mesh.close()


async def published(mesh: RedisMesh, some: list[object]) -> bool:
    try:
        await publish(mesh, topology(), some)  # type: ignore[arg-type]
    except MeshUnavailableError:
        return False
    return True
