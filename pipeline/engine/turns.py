"""In which order a worker's tasks step while there is more to do than can be done at once: the urgent ones first.

A stage is as urgent as the most urgent stream it reads.  Every task has its turn, the more urgent ones before the others;
and between turns of less urgent ones it is looked whether something urgent has come, which then goes first.  So what is
urgent waits for a step of something else at each stage on its way (for several, if they take a few milliseconds only), and
everything else goes on.  A round that takes too long is broken off, and gone on with where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from pipeline.engine.mesh import Mesh
from pipeline.engine.owned import Owned
from pipeline.engine.reading import RECORDS_PER_READ
from pipeline.engine.reading_plan import ENOUGH
from pipeline.engine.record import Offset, Place
from topology.graph import Stage

LOOK_S = 0.005
"""A look costs a round trip, so there is none while what is to be done takes no longer than this."""


class Turns:
    """Who steps when.

    Args:
        stages: those the worker runs.
    """

    def __init__(self, mesh: Mesh, stages: Collection[Stage]) -> None:
        self._mesh = mesh
        self._urgency = {stage.id: stage.urgency for stage in stages}
        self._most = max(self._urgency.values(), default=0)
        self._alike = len(set(self._urgency.values())) < 2
        self._looked_at_s = 0.0
        self._left: frozenset[tuple[str, int]] = frozenset()

    def order(self, ready: Sequence[Owned]) -> Sequence[Owned]:
        """Who steps in this round, or in the rest of the one that was broken off; the more urgent first."""
        left = [owned for owned in ready if owned.place in self._left] if self._left else ()
        return self._by_urgency(left or ready)

    def break_off(self, left: Sequence[Owned]) -> None:
        """The round ends here; those who are left have their turns before anybody has another one."""
        self._left = frozenset(owned.place for owned in left)

    def read_at(self, now_s: float) -> None:
        """Everything was read just now."""
        self._looked_at_s = now_s

    def look_is_due(self, after: Owned, now_s: float) -> bool:
        """Whether something more urgent than what had its turn may have come by now."""
        if self._alike or self._urgency[after.stage.id] == self._most:
            return False
        return now_s - self._looked_at_s >= LOOK_S

    async def look(self, holdings: Iterable[Owned], than: Owned, now_s: float) -> tuple[Sequence[Owned], int]:
        """Offer what has come for tasks that are more urgent than one; answers those tasks, and how many records it was.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        rank = self._urgency[than.stage.id]
        urgent = [owned for owned in holdings if owned.sound and self._urgency[owned.stage.id] > rank]
        wanted: dict[Place, Offset] = {}
        tasks = [(owned, owned.task) for owned in urgent if owned.task.room and owned.task.waiting < ENOUGH]
        for _, task in tasks:
            for place, offset in task.positions.items():
                wanted[place] = min(offset, wanted.get(place, offset))
        records = await self._mesh.read(wanted, count=RECORDS_PER_READ, wait_s=0) if wanted else []
        for owned, task in tasks if records else ():
            if owned.task is task:  # one restored meanwhile must not skip what lies before it
                owned.offer(records)
        self._looked_at_s = now_s
        return self._by_urgency(urgent), len(records)

    def _by_urgency(self, ready: Sequence[Owned]) -> Sequence[Owned]:
        return ready if self._alike else sorted(ready, key=lambda owned: -self._urgency[owned.stage.id])
