"""How a worker reads: one call for all its tasks, waiting on the mesh while it has nothing else to do."""

from __future__ import annotations

import asyncio

from pipeline.engine.mesh import MEMBERS, Mesh
from pipeline.engine.owned import Holdings
from pipeline.engine.reading_plan import ReadingPlan
from pipeline.engine.record import BEGINNING, Place, Record

RECORDS_PER_READ = 500
"""Of each partition ..."""
_RECORDS_AT_ONCE = 20_000
"""... and of all partitions of a worker, which may be hundreds: an answer takes memory, and time in which nothing is done.

Each of them may be full at first, so they share; while few are, those are read in larger and larger portions.
"""
_RECORDS_AT_MOST = 50_000
"""That so many come at once all the same can be, once: when all have become full since the last read."""
_RECORDS_PER_READ_MIN = 20
WAIT_S = 1.0
_WAIT_FOR_OTHERS_S = 0.01
_WAIT_FOR_BUSY_S = 0.05
_CANCEL_AGAIN_S = 0.03
"""A read that is cancelled costs its connection, and many partitions may come back one after the other."""


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
        self._plan = ReadingPlan(holdings)
        self._cancel_at_s = 0.0
        self._count = RECORDS_PER_READ
        self._most_places = 0
        self._members = BEGINNING
        self.members_changed = False

    async def next(self, wait_s: float) -> int:
        """Offer the tasks what was read; answers how many records that was, 0 when woken or when time is up.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        self.members_changed = False
        now_s = asyncio.get_running_loop().time()
        if self._reading is not None and self._plan.leaves_somebody_out():
            # Somebody got room, or was restored, and would have to wait for the others' read.
            if now_s >= self._cancel_at_s:
                self._cancel_at_s = now_s + _CANCEL_AGAIN_S
                await self.cancel()
            else:
                wait_s = min(wait_s, self._cancel_at_s - now_s)
        if self._reading is None:
            self._plan.make()
            longest_s = _WAIT_FOR_BUSY_S if self._plan.passes_over else WAIT_S
            self._reading = asyncio.create_task(self._read(longest_s if self._plan.alike else _WAIT_FOR_OTHERS_S))
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

    @property
    def _fewest(self) -> int:
        return max(_RECORDS_PER_READ_MIN, min(RECORDS_PER_READ, _RECORDS_AT_ONCE // self._most_places))

    async def cancel(self) -> None:
        """Forget the read that is on its way; nothing is consumed by it."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, wait_s: float) -> list[Record]:
        places = {MEMBERS: self._members, **self._plan.places}
        if len(places) > self._most_places:
            self._most_places = len(places)
            self._count = self._fewest
        return await self._mesh.read(places, count=self._count, wait_s=wait_s)

    def _offer(self, records: list[Record]) -> int:
        by_place: dict[Place, list[Record]] = {}
        stream, partition = "", -1
        of_place: list[Record] = []
        for record in records:
            if record.partition != partition or record.stream != stream:
                stream, partition = record.stream, record.partition
                of_place = by_place.setdefault((stream, partition), [])
            of_place.append(record)
        if len(records) > _RECORDS_AT_ONCE:
            self._count = self._fewest
        elif len(records) < _RECORDS_AT_ONCE / 4:
            most = max(_RECORDS_PER_READ_MIN, _RECORDS_AT_MOST // self._most_places)
            self._count = min(2 * self._count, RECORDS_PER_READ, most)
        if changes := by_place.pop(MEMBERS, []):
            self.members_changed = True
            self._members = changes[-1].offset
        for owned in self._plan.readers_of(by_place):
            offered: list[Record] = []
            for place, position in owned.task.positions.items():
                # A task restored while the read was on its way must not skip what lies before it.
                if place in by_place and position >= self._plan.places[place]:
                    offered += by_place[place]
            if offered and owned.sound and owned.task.room:
                owned.offer(offered)
        return len(records) - len(changes)
