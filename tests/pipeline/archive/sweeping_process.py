"""A janitor in a process of its own, to be killed at the worst moment.

    python -m tests.pipeline.archive.sweeping_process URL NAMESPACE FOLDER before-commit|before-trim

Says "here" when a segment has its name and nothing tells of it yet, or when that is committed and nothing is trimmed.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.archive.archivist import Archivist
from pipeline.archive.folder import Archive
from pipeline.engine.mesh import FencedError, Lease
from pipeline.engine.record import Commit, Offset, Place
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.retention import Janitor
from tests.pipeline.archive.archiving import archiving_topology, later_ms


def wait_to_be_killed() -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()
    while True:
        signal.pause()


class HangingMesh(RedisMesh):
    before: str

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        if self.before == "before-commit":
            wait_to_be_killed()
        return await super().commit(commits)

    async def trim(self, place: Place, before: Offset) -> int:
        if self.before == "before-trim" and place[0] == "signals":
            wait_to_be_killed()
        return await super().trim(place, before)


async def main(url: str, namespace: str, folder: str, before: str) -> None:
    mesh = HangingMesh.connect(url, namespace)
    assert isinstance(mesh, HangingMesh)
    mesh.before = before
    archivist = Archivist(mesh, Archive(Path(folder)), segment_records=7, lease_s=1.0)
    await Janitor(mesh, archiving_topology(), keeper=archivist, clock_ms=later_ms).sweep()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
