"""A Redis and a mesh on it for the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from pipeline.engine.redis_mesh import RedisMesh


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, "t")
    yield mesh
    await mesh.close()
