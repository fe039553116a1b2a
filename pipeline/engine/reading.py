"""How a worker reads: one call for all its tasks, waiting on the mesh while it has nothing else to do."""

from __future__ import annotations

import asyncio

from pipeline.engine.mesh import MEMBERS, Mesh
from pipeline.engine.owned import Holdings
from pipeline.engine.record import BEGINNING, Offset, Place, Record
from pipeline.engine.task import PartitionTask

RECORDS_PER_READ = 500
"""Of each partition ..."""
_RECORDS_AT_ONCE = 20_000
"""... and of all partitions of a worker, which may be hundreds: an answer takes memory, and time in which nothing is done."""
_RECORDS_PER_READ_MIN = 20
WAIT_S = 1.0
_WAIT_FOR_OTHERS_S = 0.01


class Reader:
    """Reads for every task that has room; a read that is on its way goes on while the worker does other things.

    Args:
        holdings: the worker's own, which it changes.
        wake: set when the worker should look around before anything is read.

    Attributes:
        members_changed: whether the last read told that the list of live workers has changed.
    """

    def __init__(self, mesh: Mesh, holdings: Holdings, wake: asyncio.Event) -> None:
        self._mesh = mesh
        self._holdings = holdings
        self._wake = wake
        self._reading: asyncio.Task[list[Record]] | None = None
        self._from: dict[Place, Offset] = {}
        self._for: dict[tuple[str, int], PartitionTask] = {}
        self._turn = 0
        self._members = BEGINNING
        self.members_changed = False

    async def next(self, wait_s: float) -> int:
        """Offer the tasks what was read; answers how many records that was, 0 when woken or when time is up.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        self.members_changed = False
        if self._reading is not None and any(
            owned.sound and owned.task.room and self._for.get(place) is not owned.task
            for place, owned in self._holdings.items()
        ):
            await self.cancel()  # somebody got room, or was restored, and would have to wait for the others' read
        if self._reading is None:
            self._reading = self._begin()
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({self._reading, waking}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        self._wake.clear()
        if not self._reading.done():
            return 0
        reading, self._reading = self._reading, None
        return self._offer(reading.result())

    async def cancel(self) -> None:
        """Forget the read that is on its way; nothing is consumed by it."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _begin(self) -> asyncio.Task[list[Record]]:
        wanted: dict[Place, set[Offset]] = {}
        self._for = {}
        for held, owned in self._holdings.items():
            if owned.sound and owned.task.room:
                self._for[held] = owned.task
                for place, offset in owned.task.positions.items():
                    wanted.setdefault(place, set()).add(offset)
        # Stages that read the same partition are mostly at the same record.  Where they are not, they take turns, so
        # that one that is far behind, or held up by its questions, does not hold up the others.
        self._turn += 1
        self._from = {place: sorted(offsets)[self._turn % len(offsets)] for place, offsets in wanted.items()}
        alike = all(len(offsets) == 1 for offsets in wanted.values())
        return asyncio.create_task(self._read(WAIT_S if alike else _WAIT_FOR_OTHERS_S))

    async def _read(self, wait_s: float) -> list[Record]:
        count = max(_RECORDS_PER_READ_MIN, min(RECORDS_PER_READ, _RECORDS_AT_ONCE // (len(self._from) or 1)))
        return await self._mesh.read({MEMBERS: self._members, **self._from}, count=count, wait_s=wait_s)

    def _offer(self, records: list[Record]) -> int:
        by_place: dict[Place, list[Record]] = {}
        stream, partition = "", -1
        of_place: list[Record] = []
        for record in records:
            if record.partition != partition or record.stream != stream:
                stream, partition = record.stream, record.partition
                of_place = by_place.setdefault((stream, partition), [])
            of_place.append(record)
        if changes := by_place.pop(MEMBERS, []):
            self.members_changed = True
            self._members = changes[-1].offset
        for owned in self._holdings.values():
            offered: list[Record] = []
            for place, position in owned.task.positions.items():
                # A task restored while the read was on its way must not skip what lies before it.
                if place in by_place and position >= self._from[place]:
                    offered += by_place[place]
            if offered and owned.sound and owned.task.room:
                owned.task.offer(offered)
        return len(records) - len(changes)
