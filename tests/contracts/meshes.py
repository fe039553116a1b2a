"""The implementations of the mesh that pass one contract suite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from pipeline.engine.forwarder import Forwarder
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.record import Commit
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import topology

MESHES = [
    pytest.param("memory"),
    pytest.param("redis", marks=pytest.mark.servers),
    pytest.param("cluster", marks=pytest.mark.servers),
]


@asynccontextmanager
async def opened(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    """A new, empty mesh."""
    if kind == "memory":
        yield MemoryMesh(lambda: time.time_ns() // 1_000_000)
        return
    url = request.getfixturevalue("cluster_url" if kind == "cluster" else "redis_url")
    mesh = RedisMesh.connect(url, namespace=f"t{uuid4().hex[:8]}")
    try:
        yield ForwardingMesh(mesh) if kind == "cluster" else mesh
    finally:
        await mesh.close()


class ForwardingMesh:
    """A mesh on a cluster with a forwarder that is done when a commit returns.

    The suite looks at what a commit put out as soon as it was made, which on a cluster is a moment too early.
    """

    def __init__(self, mesh: RedisMesh) -> None:
        self._mesh = mesh
        self.forwarder = Forwarder(mesh, topology(), name="forwarder", lease_s=60)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mesh, name)

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        outcomes = await self._mesh.commit(commits)
        while await self.forwarder.step(wait_s=0):
            pass
        return outcomes
