"""What commands say of a topology some of whose stages run as one task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.engine.drive import Driver
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.loading import load_topology
from pipeline.settings import settings
from tests.contracts.counting import sample
from tests.pipeline.commands.calling import call, call_json

TOPOLOGY = """
name: chained
streams:
  signals: {carries: [MetricSampled, LogWritten], partitions: 2}
  samples: {carries: [MetricSampled], partitions: 2, stored: false}
  counted: {carries: [AnomalyDetected], partitions: 2}
stages:
  - {id: split, agent: "tests.contracts.chained:Split", consumes: signals, emits: [samples, counted]}
  - {id: sum, agent: "tests.contracts.chained:Sum", consumes: samples, emits: counted}
"""

pytestmark = pytest.mark.servers


@pytest.fixture
def file(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDIS_URL", redis_url)
    path = tmp_path / "chained.yaml"
    path.write_text(TOPOLOGY)
    return path


def on_the_mesh(work: Callable[[RedisMesh], Awaitable[None]]) -> None:
    async def do() -> None:
        mesh = RedisMesh.connect(settings().redis_url.get_secret_value(), settings().namespace)  # type: ignore[union-attr]
        await work(mesh)
        await mesh.close()

    asyncio.run(do())


@contextmanager
def a_worker(file: Path) -> Iterator[None]:
    """Somebody works, beside the command."""
    stopped = threading.Event()

    async def work(mesh: RedisMesh) -> None:
        run = Driver(load_topology(file), mesh=mesh)
        while not stopped.is_set():
            await run.run_until_idle()
            await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: on_the_mesh(work))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_check_and_describe_know_what_is_in_memory_only(file: Path) -> None:
    assert call("topology", "check", file).exit_code == 0
    assert call_json("topology", "describe", file, "--json")["streams"]["samples"]["stored"] is False
    file.write_text(TOPOLOGY.replace("stored: false", "stored: false, archive: true"))
    refused = call("topology", "check", file)
    assert refused.exit_code == 78
    assert "chained.yaml:5: error: streams.samples.archive" in refused.output


def test_tap_says_why_there_is_nothing_to_see(file: Path) -> None:
    found = call("tap", "samples", "--topology", file)
    assert found.exit_code == 2
    assert "passed on to sum in memory and lies nowhere" in found.output


def test_top_counts_what_all_stages_of_a_task_say_and_give_up(file: Path) -> None:
    async def work(mesh: RedisMesh) -> None:
        run = Driver(load_topology(file), mesh=mesh)
        metrics = ("m", "poison:before", "poison-split")
        await run.publish("signals", [sample(n, "abc"[n], n, metric) for n, metric in enumerate(metrics)])
        await run.run_until_idle()

    on_the_mesh(work)
    told = call_json("top", "--once", "--interval", "0.1", "--json", "--topology", file)
    [line] = told["stages"]
    assert (line["stage"], line["following"], line["lag"], line["dead_letters"]) == ("split", ["sum"], 0, 2)
    shown = call("top", "--once", "--interval", "0.1", "--topology", file)
    assert "split + sum" in shown.output


def test_a_letter_of_a_stage_within_a_task_is_replayed_by_the_command(file: Path) -> None:
    async def fail(mesh: RedisMesh) -> None:
        run = Driver(load_topology(file), mesh=mesh)
        await run.publish("signals", [sample(1, "a", 1, "poison:before")])
        await run.run_until_idle()

    on_the_mesh(fail)
    [letter] = call_json("dlq", "list", "--json")
    assert (letter["stage"], letter["key"], letter["count"]) == ("sum", "a", 1)
    file.write_text(TOPOLOGY.replace("chained:Sum", "chained:MendedSum"))
    with a_worker(file):
        replayed = call("dlq", "replay", "--stage", "sum", "--topology", file)
    assert replayed.stdout == "replayed: 1 letter\n", replayed.output
    assert call_json("dlq", "list", "--json") == []


def test_top_counts_what_tables_within_a_task_dropped(file: Path) -> None:
    file.write_text(TOPOLOGY.replace("tests.contracts.chained:Sum", "tests.pipeline.engine.stages:Crowded"))

    async def work(mesh: RedisMesh) -> None:
        run = Driver(load_topology(file), mesh=mesh)
        await run.publish("signals", [sample(n, f"k{n}", 1, "m") for n in range(10)])
        await run.run_until_idle()

    on_the_mesh(work)
    [line] = call_json("top", "--once", "--interval", "0.1", "--json", "--topology", file)["stages"]
    assert set(line["evicted"]) == {"sum/few", "sum/notes"}
    assert line["evicted"]["sum/notes"]["keys_max"] > 0
