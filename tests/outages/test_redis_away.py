"""Redis restarts, is cut off, hangs: nothing that was accepted is lost, nothing is done twice, and one is told once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.sources import journaled
from pipeline.sources.door import Door
from pipeline.sources.journal import Keeping
from tests.contracts.counting import line
from tests.outages.cable import cable_to
from tests.outages.own_redis import OwnRedis, own_redis
from tests.outages.small_deployment import SAMPLED, SmallDeployment, deployed_small, passes
from tests.polling import eventually
from topology.codec import encode

pytestmark = [pytest.mark.servers]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path / "redis") as server:
        yield server


async def test_redis_restarts(server: OwnRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(50))
        server.kill()
        await deployment.say(range(50, 150))
        assert deployment.refused == 0, "the journal takes it"
        assert "is away" in deployment.told
        assert "the journal keeps" in deployment.told
        server.start()
        await deployment.say(range(150, 200))
        await deployment.everything_once()
        assert deployment.told == ""
        assert not deployment.ended_by
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([each for each in said if "mesh's server is away" in each]) == 1, said
    assert len([each for each in said if "answers again" in each]) == 1, said
    assert not [each for each in said if "failed" in each], "what waits does not say again what the mesh has said"


async def test_who_asks_about_nothing_ends_no_outage(tmp_path: Path) -> None:
    mesh = RedisMesh.connect(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(MeshUnavailableError):
        await mesh.ping()

    assert await mesh.lags([]) == []
    assert await mesh.claim_all([], "one", 1.0) == []

    assert "is away" in mesh.outage.trouble
    await mesh.close()


async def test_redis_is_cut_off(server: OwnRedis, tmp_path: Path) -> None:
    async with (
        cable_to(server, tmp_path) as (cable, url),
        deployed_small(url, tmp_path) as deployment,
    ):
        await deployment.say(range(20))
        cable.break_off()
        calls = server.calls()
        await deployment.say(range(20, 60))
        await passes(2)
        assert server.calls() - calls < 10, "nobody reaches it"
        assert deployment.journal.waiting.events == 40
        cable.cut = False
        await deployment.say(range(60, 80))
        await deployment.everything_once()
        assert deployment.told == ""


async def test_a_redis_that_takes_requests_and_never_answers_is_away_after_a_while(
    server: OwnRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journaled, "PUBLISH_WITHIN_S", 0.5)
    async with deployed_small(server.url, tmp_path) as deployment:
        await deployment.say(range(20))
        server.stall()
        # The server will take the first of these when it wakes up, although it was kept: it must count once.
        await deployment.say(range(20, 60))
        assert deployment.journal.waiting.events == 40
        server.stall(stalled=False)
        await deployment.everything_once(within_s=30)


async def test_the_door_answers_that_it_has_taken_events_while_redis_is_cut_off(
    server: OwnRedis, tmp_path: Path
) -> None:
    door = Door()
    async with (
        cable_to(server, tmp_path) as (cable, url),
        deployed_small(url, tmp_path, journal_bytes=20_000) as deployment,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(door.application(deployment.sources.of("door", Keeping("refuse")))),
            base_url="http://door",
        ) as client,
    ):
        cable.break_off()
        answers = []
        for number in range(100):
            body = encode(line(number, f"s{number % 5}", number))
            answer = await client.post("/v1/events", content=body, headers={"content-type": "application/json"})
            answers.append(answer.status_code)
            if answer.status_code == 202:
                deployment.accepted.append(number)
        assert set(answers) == {202, 503}, "what does not fit into the journal is refused"
        assert answers.index(503) > 20
        assert door.refused["mesh away"] == answers.count(503)
        cable.cut = False
        await deployment.everything_once()


async def test_samples_that_cannot_be_kept_are_counted_by_name(
    server: OwnRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        cable_to(server, tmp_path) as (cable, url),
        deployed_small(url, tmp_path, journal_bytes=20_000) as deployment,
    ):
        cable.break_off()
        await deployment.say(range(200), source="host", keeping=SAMPLED)
        dropped = deployment.sources.dropped["host"]
        assert dropped > 50
        assert f"{dropped:,} of host" in deployment.told
        cable.cut = False
        await eventually(lambda: not deployment.journal.waiting.events, saying="the journal is drained")
        out = await eventually(lambda: came_out(deployment, 200 - dropped), saying="what was kept comes out")
        assert any(each.subject.startswith("line 199 ") for each in out), "the oldest are dropped, not the youngest"
    assert caplog.text.count("events of host are dropped") == 1


async def came_out(deployment: SmallDeployment, count: int) -> list[Any]:
    out = await deployment.numbered()
    return out if len(out) == count else []


async def test_a_source_whose_events_are_kept_elsewhere_waits(server: OwnRedis, tmp_path: Path) -> None:
    async with (
        cable_to(server, tmp_path) as (cable, url),
        deployed_small(url, tmp_path) as deployment,
    ):
        cable.break_off()

        async def follow() -> None:
            await deployment.say(range(10), source="logs", keeping=Keeping("wait"))

        following = asyncio.create_task(follow())
        await passes(1)
        assert deployment.accepted == []
        assert deployment.journal.waiting.events == 0
        cable.cut = False
        await following
        await deployment.everything_once()


async def test_without_a_journal_what_was_promised_is_refused_and_samples_are_counted(
    server: OwnRedis, tmp_path: Path
) -> None:
    async with deployed_small(server.url, tmp_path) as deployment:
        sources = journaled.JournaledPublisher(deployment.sources._publisher, None)
        server.kill()
        with pytest.raises(MeshUnavailableError, match="no journal"):
            await sources.of("door", Keeping("refuse"))([line(1, "a", 1)])
        await sources.of("host", SAMPLED)([line(1, "a", 1), line(2, "a", 2)])
        assert sources.trouble == "events that could not be kept: 2 of host"
        server.start()
        await eventually(lambda: not deployment.mesh.outage.trouble, saying="it is back")
