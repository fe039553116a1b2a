"""The servers that other tests get."""

from __future__ import annotations

import asyncpg
import pytest
import redis

from pipeline.servers import ServerLease

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_gets_an_empty_redis(redis_url: str, turn: int) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("turn", turn)


async def test_every_module_gets_a_database_without_the_extension(database_url: str, servers: ServerLease) -> None:
    assert database_url != servers.database_url
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 0
    await connection.close()
