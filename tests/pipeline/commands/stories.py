"""Stored stories for the tests of verbs that read the knowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from pipeline.knowledge.connections import open_pool
from pipeline.knowledge.migrate import migrate
from pipeline.sinks.postgres import KnowledgeSink
from tests.pipeline.knowledge.stores import empty
from tests.pipeline.knowledge.telling import PROVIDER, embed
from topology.event import Event, Payload


@pytest.fixture
def stored_url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty knowledge that the command uses."""

    async def prepare() -> None:
        await migrate(database_url)
        pool = await open_pool(database_url)
        await empty(pool)
        await pool.close()

    asyncio.run(prepare())
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def store(url: str, events: Iterable[Event[Payload]]) -> None:
    """Put events into the knowledge, as the sink of a deployment does."""

    async def write() -> None:
        pool = await open_pool(url)
        sink = KnowledgeSink(pool, embed=embed, provider=PROVIDER)
        await sink.open()
        await sink.write(list(events))
        await sink.close()
        await pool.close()

    asyncio.run(write())
