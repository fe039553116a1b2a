"""In which order a worker's tasks step while there is more to do than can be done: the urgent ones first.

A stage is as urgent as the most urgent stream it reads.  All that are most urgent step, and their commits go out; then one
of the others steps, and it is looked whether something urgent has come.  So nothing urgent waits for more than one step of
anything else, and everything else has its share.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pipeline.engine.mesh import Mesh
from pipeline.engine.owned import Owned
from pipeline.engine.reading import RECORDS_PER_READ
from pipeline.engine.record import Offset, Place
from pipeline.engine.task import PartitionTask
from topology.graph import Stage

_HEAD_START = 4
"""How many turns one rank of urgency is worth."""


class Turns:
    """Whose turn it is.

    Args:
        stages: those the worker runs.
    """

    def __init__(self, mesh: Mesh, stages: Collection[Stage]) -> None:
        self._mesh = mesh
        self._urgency = {stage.id: stage.urgency for stage in stages}
        self._alike = len(set(self._urgency.values())) < 2
        self._passed_over: dict[tuple[str, int], int] = {}

    def next(self, ready: Sequence[Owned]) -> tuple[Sequence[Owned], Owned | None]:
        """The tasks that step now, and the one that steps after them although it is less urgent.

        Args:
            ready: at least one.
        """
        if self._alike:
            return ready, None
        most = max(self._urgency[owned.stage.id] for owned in ready)
        first = [owned for owned in ready if self._urgency[owned.stage.id] == most]
        if len(first) == len(ready):
            self._passed_over.clear()
            return ready, None
        others = [owned for owned in ready if self._urgency[owned.stage.id] < most]
        waited = {owned.place: self._passed_over.get(owned.place, 0) for owned in others}
        chosen = max(others, key=lambda owned: self._urgency[owned.stage.id] * _HEAD_START + waited[owned.place])
        self._passed_over = {place: turns + 1 for place, turns in waited.items() if place != chosen.place}
        return first, chosen

    async def look(self, holdings: Iterable[Owned], than: Owned) -> int:
        """Offer what has come by now for tasks that are more urgent than one; answers how many records that was.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        wanted: dict[Place, Offset] = {}
        tasks: list[tuple[Owned, PartitionTask]] = []
        for owned in holdings:
            if self._urgency[owned.stage.id] > self._urgency[than.stage.id] and owned.sound and owned.task.room:
                tasks.append((owned, owned.task))
                for place, offset in owned.task.positions.items():
                    wanted[place] = min(offset, wanted.get(place, offset))
        records = await self._mesh.read(wanted, count=RECORDS_PER_READ, wait_s=0) if wanted else []
        for owned, task in tasks if records else ():
            if owned.task is task:  # one restored meanwhile must not skip what lies before it
                task.offer(records)
        return len(records)
