"""A process is killed while its journal holds what it promised: the next one brings all of it into the mesh, once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import pipeline
from pipeline.engine.keys import Keys
from pipeline.sources.identity import new_id
from pipeline.sources.journal import Journal, Keeping
from pipeline.sources.journal_files import look_into
from tests.contracts.counting import line
from tests.outages.own_redis import OwnRedis, own_redis
from tests.polling import wait_until
from topology.codec import decode, encode
from topology.event import Event

pytestmark = [pytest.mark.servers]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


@contextmanager
def door_process(url: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.outages.journal_process", url, str(folder)],
        cwd=Path(pipeline.__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def in_mesh(server: OwnRedis) -> list[Event[Any]]:
    with server.client() as client:
        entries = [entry for number in range(3) for entry in client.xrange(Keys("t").partition(("signals", number)))]
    return [decode(fields["e"]) for _, fields in sorted(entries, key=lambda entry: [*map(int, entry[0].split("-"))])]


def test_what_the_door_accepted_survives_a_kill(server: OwnRedis, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    server.stop()
    with door_process(server.url, folder) as (process, door), httpx.Client(base_url=door) as client:
        for number in range(50):
            body = encode(line(number, "s", number))
            answer = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 202
        process.kill()
    assert look_into(folder).waiting.events == 50

    server.start()
    with door_process(server.url, folder):
        wait_until(lambda: not look_into(folder).waiting.events, saying="the journal is drained")
    assert [event.payload.message for event in in_mesh(server)] == [f"line {number}" for number in range(50)]


def test_a_kill_in_the_middle_of_draining_publishes_nothing_twice(server: OwnRedis, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder, bytes_max=50_000_000, age_max_s=3600)
    kept = []
    for number in range(0, 6_000, 5):
        some = [line(each, f"s{each % 7}", each) for each in range(number, number + 5)]
        some = [Event(id=new_id(), timestamp=e.timestamp, source=e.source, payload=e.payload) for e in some]
        journal.append("door", Keeping("refuse"), [encode(event) for event in some])
        kept += [event.id for event in some]
    journal.close()

    kills = 0
    for enough in (300, 1_500, 2_500, 4_000):
        with door_process(server.url, folder) as (process, _):
            wait_until(lambda enough=enough: len(in_mesh(server)) >= enough, saying="some are in the mesh")  # type: ignore[misc]
            process.kill()
            kills += len(in_mesh(server)) < len(kept)
    with door_process(server.url, folder):
        wait_until(lambda: not look_into(folder).waiting.events, saying="the journal is drained", within_s=20)
    found = in_mesh(server)
    assert kills > 0, "it was killed in the middle"
    assert sorted(event.id for event in found) == sorted(kept)
    for service in range(7):
        said = [event.timestamp for event in found if event.payload.service == f"s{service}"]
        assert said == sorted(said)
