"""Fixtures: a migrated database, emptied before each test, and what reads and writes it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from pipeline.knowledge.connections import Pool, open_pool
from pipeline.knowledge.migrate import migrate
from pipeline.knowledge.store import PostgresKnowledge
from pipeline.sinks.postgres import KnowledgeSink
from tests.pipeline.knowledge.telling import PROVIDER, embed

_TABLES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'schema_migrations' ORDER BY table_name
"""


async def tables(pool: Pool) -> list[str]:
    return [row["table_name"] for row in await pool.fetch(_TABLES)]


async def empty(pool: Pool) -> None:
    # DELETE and not TRUNCATE: for a few rows it is ten times faster.
    for table in await tables(pool):
        await pool.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from the catalogue


async def everything(pool: Pool) -> dict[str, list[str]]:
    """All rows of all tables, as text, sorted."""
    found = {}
    for table in await tables(pool):
        rows = await pool.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")  # noqa: S608 - as above
        found[table] = [row["row"] for row in rows]
    return found


@pytest.fixture
def fresh_database_url(database_url: str) -> Iterator[str]:
    """A database in which nothing has been created yet."""
    name = f"fresh_{secrets.token_hex(6)}"
    asyncio.run(_execute(database_url, f"CREATE DATABASE {name}"))
    yield urlsplit(database_url)._replace(path=f"/{name}").geturl()
    asyncio.run(_execute(database_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def knowledge_url(database_url: str) -> str:
    asyncio.run(migrate(database_url))
    return database_url


@pytest.fixture
async def pool(knowledge_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(knowledge_url)
    await empty(pool)
    yield pool
    await pool.close()


@pytest.fixture
def sink(pool: Pool) -> KnowledgeSink:
    return KnowledgeSink(pool, embed=embed, provider=PROVIDER)


@pytest.fixture
def knowledge(pool: Pool) -> PostgresKnowledge:
    return PostgresKnowledge(pool, embed=embed, provider=PROVIDER)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
