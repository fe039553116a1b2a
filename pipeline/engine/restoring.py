"""Brings back the task of a stage's partition from its commits: part by part, so that a large state holds up nobody.

Between two parts everything else that runs in the process goes on.  The parts fit together because only the owner
changes them: the mesh refuses the next one when the lease was lost, and a commit that was made meanwhile all the same
has another number than the one the task will be asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.engine.chain import task_for
from pipeline.engine.inputs import inputs_of
from pipeline.engine.mesh import Lease, Mesh
from pipeline.engine.rows import Remembered
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import HaltedError, Memory
from topology.graph import Stage

log = logging.getLogger(__name__)

_TELL_EVERY_S = 1.0


@dataclass(slots=True)
class Restoring:
    """How far one restore has come, for whoever looks on.

    Attributes:
        rows: how many have been taken over.
        of_rows: how many there are; 0 before that is known.
    """

    rows: int = 0
    of_rows: int = 0

    def __str__(self) -> str:
        """For people: rows done of rows known."""
        return f"{min(self.rows, self.of_rows):,} of {self.of_rows:,} rows"


async def restored_task(
    mesh: Mesh, stage: Stage, lease: Lease, memory: Memory, progress: Restoring | None = None
) -> PartitionTask:
    """The task of a partition as its last commit left it; renew the lease while a large one is on its way.

    Args:
        progress: kept up to date meanwhile.

    Raises:
        FencedError: the lease was lost on the way.
        HaltedError: the stage cannot begin with what it had stored.
        MeshUnavailableError: the mesh is away; begin again.
        LostWritesError: the mesh's server lost writes.
    """
    progress = Restoring() if progress is None else progress
    clock = asyncio.get_running_loop()
    told_s = begun_s = clock.time()
    name = f"{stage.id}/{lease.partition}"
    restored = await mesh.restore(lease, inputs_of(stage, lease.partition))
    progress.rows, progress.of_rows, more = len(restored.state), restored.rows, restored.more
    with _or_halted(name):
        remembered = Remembered(stage, restored)
    while more:
        await asyncio.sleep(0)  # a mesh may answer at once, and taking over a part takes milliseconds
        part = await mesh.restore_more(lease, more)
        more = part.more
        with _or_halted(name):
            remembered.restore(part.state, last=not more)
        progress.rows += len(part.state)
        if clock.time() - told_s >= _TELL_EVERY_S:
            told_s = clock.time()
            log.info("%s is being restored: %s", name, str(progress))  # as it is now, whenever it is written
    if told_s > begun_s:
        log.info("%s is restored: %s rows in %.1f s", name, f"{progress.rows:,}", clock.time() - begun_s)
    with _or_halted(name):
        task = task_for(stage, lease.partition, remembered, memory)
        for agent in task.agents:
            await agent.initialize()
    return task


@contextmanager
def _or_halted(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        msg = (
            f"{name} cannot begin with what it had stored: {error}. "
            f"Bring back the release that wrote it, or give the stage a new id"
        )
        raise HaltedError(msg) from error
