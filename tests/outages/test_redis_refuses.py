"""Redis has no room, in memory or on its disk: everything waits, nothing spins, and it goes on when there is room."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

import pipeline
from tests.outages.own_redis import OwnRedis, own_redis
from tests.outages.small_deployment import deployed_small, passes
from tests.pipeline.commands.calling import start
from tests.polling import eventually

pytestmark = [pytest.mark.servers]

CALLS_PER_S_MAX = 20
"""Of all parts of a deployment together, while nothing can be written."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


async def calls_per_s(server: OwnRedis, seconds: float) -> float:
    """How often the server is called from now on."""
    before, began = server.calls(), time.monotonic()
    await passes(seconds)
    return (server.calls() - before) / (time.monotonic() - began)


async def test_redis_is_full(server: OwnRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(50))
        await deployment.everything_once()
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
        await deployment.say(range(50, 100))
        assert deployment.journal.waiting.events == 50
        assert "refuses writes: " in deployment.told
        assert "OOM" in deployment.told or "maxmemory" in deployment.told
        assert await calls_per_s(server, 4) < CALLS_PER_S_MAX

        with server.client() as client:
            client.config_set("maxmemory", "0")
        await deployment.say(range(100, 120))
        await deployment.everything_once()
        assert deployment.told == ""
        assert not deployment.ended_by
    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len([each for each in told if "refuses writes" in each]) == 1, told
    assert len([each for each in told if "takes writes again" in each]) == 1, told
    assert len(told) < 12, told


async def test_a_worker_in_the_middle_of_its_work_commits_when_there_is_room_again(
    server: OwnRedis, tmp_path: Path
) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        with server.client() as client:
            for number in range(0, 200, 20):
                await deployment.say(range(number, number + 20))
                if number == 100:
                    client.config_set("maxmemory", "1mb")
                    await eventually(lambda: deployment.mesh.outage.trouble, saying="it is noticed")
            client.config_set("maxmemory", "0")
        await deployment.everything_once()


async def test_the_disk_is_full(server: OwnRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(50))
        await deployment.everything_once()
        server.limit_files(1_000)
        # What is taken before the server notices is in its memory, and on its disk as soon as there is room.
        await eventually(lambda: noticed(server), saying="Redis cannot write to its disk", within_s=10)
        await deployment.say(range(50, 100))
        await eventually(lambda: "refuses writes: MISCONF" in deployment.told, saying="it is told", within_s=10)
        assert await calls_per_s(server, 3) < CALLS_PER_S_MAX

        server.limit_files(None)
        await deployment.say(range(100, 120))
        await deployment.everything_once()
        assert deployment.told == ""
        server.kill()
        server.start()
        await deployment.everything_once()  # all of it is on the disk
        assert not deployment.ended_by
    assert caplog.text.count("refuses writes: MISCONF") == 1


def noticed(server: OwnRedis) -> bool:
    with server.client() as client:
        return bool(client.info("persistence")["aof_last_write_status"] == "err")


def test_the_disk_of_the_journal_is_full(tmp_path: Path) -> None:
    """In a process of its own, of which no file may grow: what is promised is refused, samples are counted."""
    told = orjson.loads(start_journal(tmp_path / "journal"))

    assert told["accepted"] > 0
    assert told["refused"] > 0
    assert told["refusal"].endswith("File too large")
    assert told["dropped"] == {"host": 10}
    assert told["read back"] == told["accepted"], "what was accepted is there, and nothing that was not"


def start_journal(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.outages.full_disk_process", str(folder)],
        cwd=Path(pipeline.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_doctor_tells_what_could_not_be_kept(tmp_path: Path) -> None:
    start_journal(tmp_path / "journal")
    said = start("doctor", "--json", environment={"AIOPS_STATE_DIR": str(tmp_path)}).stdout
    found = {each["subject"]: each for each in orjson.loads(said)["found"]}
    assert "of door wait for the mesh since" in found["journal"]["what"]
    assert "10 events of host could not be kept" in found["journal losses"]["what"]
