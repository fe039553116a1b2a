"""Meshes that are broken on purpose, each in one way; a simulation that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from pipeline.engine.mesh import FencedError, Lease
from pipeline.engine.record import Commit, Output
from tests.simulation.remembering import RememberingMesh
from tests.simulation.wire import Wire


class OffsetFirst(Wire):
    """Commits in two calls: first how far it has come, then what came of it.  What dies in between is lost."""

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> Any:
        """As the mesh's."""
        done = [(lease, replace(commit, state={}, outputs=[])) for lease, commit in commits]
        said = [(lease, replace(commit, offsets={}, records={}, answered=[])) for lease, commit in commits]
        fenced = await self.call("commit", done)
        return [one or other for one, other in zip(fenced, await self.call("commit", said), strict=True)]


class OffsetLast(Wire):
    """Commits in two calls: first what came of it, then how far it has come.  What dies in between is done twice."""

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> Any:
        """As the mesh's."""
        said = [(lease, replace(commit, offsets={}, records={}, answered=[])) for lease, commit in commits]
        done = [(lease, replace(commit, state={}, outputs=[])) for lease, commit in commits]
        fenced = await self.call("commit", said)
        return [one or other for one, other in zip(fenced, await self.call("commit", done), strict=True)]


class NoFence(RememberingMesh):
    """Takes a commit from whoever makes it."""

    _commits = False

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        self._commits = True
        try:
            return await super().commit(commits)
        finally:
            self._commits = False

    def _holds(self, lease: Lease) -> bool:
        return self._commits or super()._holds(lease)


class SameToken(RememberingMesh):
    """Gives every owner the token of the first."""

    async def claim(self, stage: str, partition: int, owner: str, ttl_s: float) -> Lease | None:
        lease = await super().claim(stage, partition, owner, ttl_s)
        if lease is not None:
            self._owned[stage, partition].token = 1
            lease = replace(lease, token="1")
        return lease


class NoDedupe(RememberingMesh):
    """Takes every event for a new one."""

    _ids = 0

    async def publish(self, outputs: Sequence[Output]) -> int:
        return await super().publish([output._replace(id=self._new_id()) for output in outputs])

    def _new_id(self) -> str:
        self._ids += 1
        return str(UUID(int=self._ids, version=4))


class ForgetsAnswers(RememberingMesh):
    """Says that it has recorded an answer, and has not."""

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        await super().record_answer(lease, key, answer)
        self._owned[lease.stage, lease.partition].answers.pop(key)
