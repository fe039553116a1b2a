"""The implementations of the mesh that pass one contract suite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh
from pipeline.engine.redis_mesh import RedisMesh

MESHES = [pytest.param("memory"), pytest.param("redis", marks=pytest.mark.servers)]


@asynccontextmanager
async def opened(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    """A new, empty mesh."""
    if kind == "memory":
        yield MemoryMesh(lambda: time.time_ns() // 1_000_000)
        return
    mesh = RedisMesh.connect(request.getfixturevalue("redis_url"), namespace=f"t{uuid4().hex[:8]}")
    try:
        yield mesh
    finally:
        await mesh.close()
