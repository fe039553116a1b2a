"""``aiops top``: what it shows of a deployment is what every Redis tool shows, and what is really there."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.dead_letters import DeadLetters, replay
from pipeline.engine.keys import Keys
from pipeline.engine.outputs import DEAD_LETTERS
from pipeline.engine.publisher import Publisher
from pipeline.engine.record import Place
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.retention import Janitor
from pipeline.engine.sink_runner import SinkRunner
from pipeline.engine.worker import Worker
from pipeline.loading import load_topology
from tests.contracts.counting import Echo, line
from tests.contracts.mending import release
from tests.pipeline.commands.calling import call, call_json, started
from tests.polling import eventually, wait_until
from topology.event import Event, Payload
from topology.graph import Topology

pytestmark = pytest.mark.servers

TOPOLOGY = """
name: mending
streams:
  signals: {carries: [LogWritten], partitions: 2, retain: 1h}
  numbered: {carries: [AnomalyDetected], partitions: 2}
  answered: {carries: [AnomalyDetected], partitions: 2}
stages:
  - {id: number, agent: "tests.contracts.mending:Number", consumes: signals, emits: numbered}
  - {id: ask, agent: "tests.contracts.mending:AskAndNumber", consumes: signals, emits: answered}
"""
SERVICES = ("a", "b", "c", "d", "e")


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event[Payload]] = []

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        self.events += events

    async def close(self) -> None:
        """Nothing to give back."""


class Silence:
    """A world that never answers."""

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
def file(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDIS_URL", redis_url)
    path = tmp_path / "mending.yaml"
    path.write_text(TOPOLOGY)
    return path


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url)
    yield mesh
    await mesh.close()


@asynccontextmanager
async def working(mesh: RedisMesh, *, mended: bool = True, world: Any = None) -> AsyncIterator[Worker]:
    """A worker for all stages, and a sink, until the end of the block."""
    worker = Worker(mesh, release(mended=mended), {ExecuteAction: world or Echo()}, name="one", lease_s=2)
    sink = SinkRunner(mesh, "kept", Kept(), [release(mended=mended).streams["numbered"]], name="one", lease_s=2)
    tasks = [asyncio.create_task(worker.run()), asyncio.create_task(sink.run())]
    try:
        yield worker
    finally:
        worker.stop()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def say(mesh: RedisMesh, numbers: range, *, level: str = "info") -> None:
    lines = [line(number, SERVICES[number % 5], number, level=level) for number in numbers]
    await Publisher(mesh, release(mended=True).streams["signals"])(lines)


async def top(file: Path, *options: str) -> dict[str, Any]:
    arguments: list[str | Path] = ["top", "--once", "--interval", "0.1", "--json", "--topology", file, *options]
    told: dict[str, Any] = await asyncio.to_thread(call_json, *arguments)
    return told


def lags(told: dict[str, Any]) -> dict[tuple[str, str, int], int]:
    """By stage, stream and partition, as ``top`` tells it."""
    return {
        (stage["stage"], each["stream"], each["partition"]): each["lag"]
        for stage in told["stages"]
        for line in stage["by_partition"]
        for each in line["inputs"]
    }


def groups(url: str, graph: Topology) -> dict[tuple[str, str, int], int]:
    """The same as any Redis tool tells it."""
    found = {}
    with redis.Redis.from_url(url, protocol=2) as client:
        for stream in (*graph.streams.values(), DEAD_LETTERS):
            for partition in range(stream.partitions):
                key = Keys("aiops").partition((stream.name, partition))
                for group in client.xinfo_groups(key) if client.exists(key) else ():
                    found[group["name"].decode(), stream.name, partition] = group["lag"]
    return found


async def really(mesh: RedisMesh, consumers: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], int]:
    """The same by counting what lies behind the last commit."""
    found = {}
    for stage, stream, partition in consumers:
        place: Place = (stream, partition)
        owned = (stage, 0 if stage.startswith("~") else partition, place)
        [committed] = await mesh.committed([owned])
        found[stage, stream, partition] = len(await mesh.read({place: committed}, count=100_000, wait_s=0))
    return found


async def agreed(mesh: RedisMesh, url: str, file: Path) -> dict[tuple[str, str, int], int]:
    """What all three say, when nothing moves."""
    told = lags(await top(file, "--partitions"))
    assert groups(url, load_topology(file)) == told
    assert await really(mesh, list(told)) == told
    return told


def by_stage(told: dict[tuple[str, str, int], int]) -> dict[str, int]:
    return {name: sum(lag for (stage, *_), lag in told.items() if stage == name) for name, *_ in told}


async def test_lag_is_the_same_in_top_in_xinfo_groups_and_on_the_streams(
    mesh: RedisMesh, redis_url: str, file: Path
) -> None:
    await say(mesh, range(7))
    told = lags(await top(file, "--partitions"))
    assert groups(redis_url, load_topology(file)) == {}, "nobody was ever here"
    assert by_stage(told) == {"number": 7, "ask": 7}
    assert await really(mesh, list(told)) == told

    async def is_idle() -> bool:
        return not any(groups(redis_url, load_topology(file)).values())

    async with working(mesh) as worker:
        await eventually(lambda: len(worker.owned) == 4, saying="all is owned")
        for first in range(7, 1_007, 100):
            await say(mesh, range(first, first + 100))
        await eventually(is_idle, saying="all is done")
        assert set((await agreed(mesh, redis_url, file)).values()) == {0}

    await say(mesh, range(2_000, 2_050))
    assert by_stage(await agreed(mesh, redis_url, file)) == {"number": 50, "ask": 50, "~sink-kept": 0}

    janitor = Janitor(
        mesh,
        load_topology(file),
        consumers=[("~sink-kept", [load_topology(file).streams["numbered"]])],
        clock_ms=lambda: time.time_ns() // 1_000_000 + 100 * 3_600_000,
    )
    assert await janitor.sweep() > 1_000, "all that was done"
    assert by_stage(await agreed(mesh, redis_url, file)) == {"number": 50, "ask": 50, "~sink-kept": 0}

    async with working(mesh):
        await eventually(is_idle, saying="the backlog is done")
    await janitor.sweep()
    await say(mesh, range(3_000, 3_005))
    assert by_stage(await agreed(mesh, redis_url, file)) == {"number": 5, "ask": 5, "~sink-kept": 0}


async def test_lag_is_the_same_before_and_after_dead_letters_are_replayed(
    mesh: RedisMesh, redis_url: str, file: Path
) -> None:
    async with working(mesh, mended=False):
        await say(mesh, range(10), level="error")
        await eventually(lambda: _letters(mesh, 20), saying="all are dead letters")
    assert set((await agreed(mesh, redis_url, file)).values()) == {0}
    assert {stage["stage"]: stage["dead_letters"] for stage in (await top(file))["stages"]} == {
        "number": 10,
        "ask": 10,
        "~sink-kept": 0,
    }

    known = DeadLetters()
    await known.follow(mesh)
    decision = replay(known, release(mended=True), known.letters, now=datetime.now(UTC), by="test")
    await mesh.publish(decision.requests)
    await say(mesh, range(10, 30))
    requests = len(decision.requests)
    assert by_stage(await agreed(mesh, redis_url, file)) == {
        "number": 20 + requests,
        "ask": 20 + requests,
        "~sink-kept": 0,
    }
    async with working(mesh):
        await eventually(lambda: _letters(mesh, 0), saying="all are replayed")
        await eventually(
            lambda: not any(groups(redis_url, load_topology(file)).values()), saying="what came meanwhile is done"
        )
    assert set((await agreed(mesh, redis_url, file)).values()) == {0}


async def _letters(mesh: RedisMesh, count: int) -> bool:
    known = DeadLetters()
    await known.follow(mesh)
    return len(known.letters) == count


async def test_lag_of_a_stage_that_never_commits_is_all_there_is(mesh: RedisMesh, redis_url: str, file: Path) -> None:
    async with working(mesh, world=Silence()) as worker:
        await say(mesh, range(30))
        await eventually(lambda: len(worker.owned) == 4, saying="all is owned")
        await eventually(
            lambda: not any(lag for (name, *_), lag in groups(redis_url, load_topology(file)).items() if name != "ask"),
            saying="the other stage is done",
        )
        assert by_stage(await agreed(mesh, redis_url, file)) == {"number": 0, "ask": 30, "~sink-kept": 0}


async def test_rates_are_what_was_done_between_two_looks(mesh: RedisMesh, file: Path) -> None:
    async with working(mesh) as worker:
        await say(mesh, range(5))
        await eventually(lambda: worker.counts.outputs == 15, saying="all is done")
        with started("top", "--interval", "1", "--json", "--topology", file, environment=dict(os.environ)) as process:
            assert process.stdout is not None
            first = orjson.loads(await asyncio.to_thread(process.stdout.readline))
            assert {stage["in_per_s"] for stage in first["stages"]} == {None}
            await say(mesh, range(100, 140))
            passed = dict.fromkeys(("number", "ask"), 0.0)
            put_out = dict.fromkeys(("number", "ask"), 0.0)
            for _ in range(10):
                told = orjson.loads(await asyncio.to_thread(process.stdout.readline))
                for stage in told["stages"]:
                    if stage["stage"] in passed:
                        passed[stage["stage"]] += stage["in_per_s"] * told["over_s"]
                        put_out[stage["stage"]] += stage["out_per_s"] * told["over_s"]
                if round(sum(passed.values())) == 80:
                    break

    assert {name: round(count) for name, count in passed.items()} == {"number": 40, "ask": 40}
    # An answer is put out beside what the stage concludes.
    assert {name: round(count) for name, count in put_out.items()} == {"number": 40, "ask": 80}


@pytest.mark.slow
def test_a_worker_is_shown_with_what_it_has_and_what_troubles_it(redis_url: str) -> None:
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}

    def told() -> dict[str, Any]:
        result = call("top", "--once", "--interval", "0.1", "--json", "--partitions")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = orjson.loads(result.stdout)
        return found

    with pytest.MonkeyPatch.context() as patch, started("worker", environment=environment) as process:
        patch.setenv("REDIS_URL", redis_url)

        def known() -> dict[str, Any] | None:
            found = told()
            states = [line["state"] for stage in found["stages"] for line in stage["by_partition"]]
            return found if set(states) == {"runs"} and found["workers"] and found["workers"][0]["troubles"] else None

        found = wait_until(known, saying="all is owned and the sink waits", within_s=30)
        assert found is not None
        [worker] = found["workers"]
        assert worker["partitions"] == sum(len(stage["by_partition"]) for stage in found["stages"])
        assert any("sink waits" in trouble for trouble in worker["troubles"])
        assert {line["owner"] for stage in found["stages"] for line in stage["by_partition"]} == {worker["worker"]}

        process.send_signal(signal.SIGSTOP)
        try:
            call("ingest", "events", "-", "--publish", stdin=_heartbeats(20))
            graph = load_topology(None)
            assert lags(told()) == groups(redis_url, graph)
            assert by_stage(lags(told()))["normalize"] >= 20
        finally:
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

        found = told()
        assert found["workers"] == []
        assert {line["state"] for stage in found["stages"] for line in stage["by_partition"]} == {"unowned"}
        assert lags(found) == groups(redis_url, graph)


def _heartbeats(count: int) -> bytes:
    said = [
        {
            "event_type": "heartbeat.seen",
            "source": "t",
            "payload": {"service": f"s{n}", "healthy": True, "answer": "ok"},
        }
        for n in range(count)
    ]
    return orjson.dumps(said)


def test_where_nothing_ever_ran_nobody_works_and_nothing_waits(file: Path) -> None:
    result = call("top", "--once", "--interval", "0.1", "--topology", file)

    assert result.exit_code == 0, result.output
    assert "no worker is alive" in result.stdout
    assert [line.split()[:7] for line in result.stdout.splitlines() if line.startswith("number")] == [
        ["number", "2", "0", "0", "0", "0", "0"]
    ]


def test_a_server_that_is_away_is_an_error_when_it_is_asked_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    result = call("top", "--once", "--topology", file)

    assert result.exit_code == 1
    assert "Redis did not take the call" in result.stderr
