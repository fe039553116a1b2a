"""Postgres restarts in the middle of a transaction: the sink waits and loses nothing, recall answers from memory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from agents.ports import RecallProblem
from pipeline.assembly import Addresses, Deployment, deployed
from pipeline.engine.record import output_for
from pipeline.loading import load_topology
from pipeline.servers import ServerLease, acquire
from pipeline.servers.server_dir import ServerDir
from pipeline.settings import Settings
from tests.pipeline.knowledge.telling import event, experience
from tests.polling import eventually

pytestmark = [pytest.mark.servers]
EXPERIENCES = 20


@pytest.fixture
async def database(state_dir: Path) -> AsyncIterator[ServerLease]:
    lease = await asyncio.to_thread(acquire, state_dir, need=frozenset({"postgres"}))
    yield lease
    await asyncio.to_thread(lease.close)


@asynccontextmanager
async def sink_deployed(redis_url: str, database: ServerLease, tmp_path: Path) -> AsyncIterator[Deployment]:
    """Everything but the stages."""
    addresses = Addresses(redis_url, database.database_url or "", None)
    async with deployed(Settings(state_dir=tmp_path), load_topology(), addresses, stages=()) as deployment:
        yield deployment


async def learn(deployment: Deployment, numbers: range) -> None:
    lessons = deployment.topology.streams["lessons"]
    told = [event(experience(number), number) for number in numbers]
    await deployment.mesh.publish([output_for(lessons, each) for each in told])


async def stored(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetchval("SELECT count(*) FROM experiences")
    finally:
        await connection.close()
    return int(found)


async def test_postgres_restarts_mid_transaction(
    redis_url: str, database: ServerLease, state_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = database.database_url or ""
    server = ServerDir("postgres", state_dir / "postgres", account=None)
    async with sink_deployed(redis_url, database, tmp_path) as deployment:
        await learn(deployment, range(5))
        await eventually(lambda: deployment.sinks[0].written >= 5, saying="the first ones are stored", within_s=20)
        question = RecallProblem(problem="fp:v1:crash", text="ledger crashed", system="shop")
        remembered = await deployment.knowledge.recall(question)

        holder = await asyncpg.connect(url)
        await holder.execute("BEGIN; LOCK TABLE experiences IN ACCESS EXCLUSIVE MODE")
        await learn(deployment, range(5, EXPERIENCES))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await eventually(lambda: holder.fetchval(waiting), saying="the sink is in the middle of a transaction")
        guard, pid = server.guard_pid(), server.server_pid()
        assert guard
        assert pid
        os.kill(guard, signal.SIGSTOP)  # or the server would be there again before anybody could look
        os.kill(pid, signal.SIGKILL)
        holder.terminate()
        try:
            await eventually(lambda: deployment.sinks[0].trouble, saying="the sink's trouble shows")
            degraded = await deployment.knowledge.recall(question)
            assert degraded.degraded.endswith("this is the last answer from before")
            assert degraded.records == remembered.records
            shown = " · ".join(deployment.trouble)
            assert "sink waits: could not" in shown
            assert "recall answers from memory: could not" in shown
            await learn(deployment, range(EXPERIENCES, EXPERIENCES + 5))
        finally:
            os.kill(guard, signal.SIGCONT)
        await eventually(
            lambda: deployment.sinks[0].written >= EXPERIENCES + 5,
            saying="the sink goes on",
            within_s=40,
            seen=lambda: deployment.trouble,
        )
        assert not (await deployment.knowledge.recall(question)).degraded
        assert deployment.trouble == []
        assert await stored(url) == EXPERIENCES + 5
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([each for each in said if each.startswith("sink knowledge waits")]) == 1, said
    assert len([each for each in said if each.startswith("recall answers from memory")]) == 1, said
