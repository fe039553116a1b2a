"""A mesh whose user dies at chosen moments: before a commit reaches it, or after it took effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.record import Commit

When = Literal["before", "after"]


class CrashError(Exception):
    """The process died here."""


class CrashingMesh:
    """Everything goes to the mesh behind it; its n-th effect (commit or recorded answer) kills the caller.

    Args:
        crashes: for the numbers of effects, counted from 0, whether the caller dies before or after it.
    """

    def __init__(self, mesh: Mesh, crashes: Mapping[int, When]) -> None:
        self._mesh = mesh
        self._crashes = crashes
        self._effects = 0
        self.crashed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mesh, name)

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        self._die("before")
        outcomes = await self._mesh.commit(commits)
        self._die("after")
        return outcomes

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        await self._mesh.record_answer(lease, key, answer)
        self._die("after")

    def _die(self, when: When) -> None:
        planned = self._crashes.get(self._effects)
        self._effects += when == "after"
        if planned == when:
            self._effects += when == "before"
            self.crashed += 1
            raise CrashError(f"{when} effect {self._effects}")
