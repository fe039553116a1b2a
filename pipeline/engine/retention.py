"""Forgets what everybody has read and nobody wants to keep, so that the mesh does not grow for ever; keeps the rest as files."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Protocol

from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Place
from topology.graph import Stream, Topology
from topology.moments import span_us

RETAIN = timedelta(hours=24)
"""How long a stream keeps events that every consumer has read, when it does not declare it."""
SWEEP_S = 60.0
_TOGETHER = 24
"""What a 24th of its retention brings is archived together, or a quiet stream would become a file per sweep ..."""
_TOGETHER_MS_MAX = 3_600_000
"""... but no more than an hour of it."""

log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Where events go before they are trimmed; :class:`pipeline.archive.archivist.Archivist` makes files of them."""

    async def keep(self, place: Place, before: Offset) -> Offset:
        """Keep the records before an offset; answers the offset before which they are kept, durably."""

    async def expire(self, place: Place) -> None:
        """Remove what was kept long enough."""


class Janitor:
    """Trims the streams of a topology, and those every topology has.

    An event goes when all consumers of its stream have committed past it and it is older than the stream's ``retain``:
    what a consumer has not committed is never trimmed, however old it is, and nothing of a stream that is declared with
    ``archive: true`` before it is archived.  Harmless to run in several workers.

    Args:
        keeper: archives; without one, streams that want an archive are not trimmed at all.
        consumers: those beside the stages: the name a sink commits under, with the streams it reads.
        clock_ms: milliseconds since the epoch, as the mesh's offsets count them.

    Attributes:
        trimmed: events forgotten since the start.
    """

    def __init__(
        self,
        mesh: Mesh,
        topology: Topology,
        *,
        consumers: Iterable[tuple[str, Iterable[Stream]]] = (),
        keeper: Keeper | None = None,
        every_s: float = SWEEP_S,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._mesh = mesh
        self._streams = [*topology.stored, *OPERATION_STREAMS]
        self._readers: dict[Place, list[tuple[str, int, Place]]] = {
            (stream.name, partition): [] for stream in self._streams for partition in range(stream.partitions)
        }
        for stage in topology.tasks:
            for stream in stage.inputs:
                for place in _places(stream):
                    self._readers[place].append((stage.id, place[1], place))
        for consumer, streams in consumers:
            for stream in streams:
                for place in _places(stream):
                    self._readers[place].append((consumer, 0, place))
        self._keeper = keeper
        self._told: set[str] = set()
        self._every_s = every_s
        self._clock_ms = clock_ms
        self.trimmed = 0

    async def run(self) -> None:
        """Sweep now and then until cancelled; raises ``MeshUnavailableError`` when the mesh is away."""
        while True:
            await self.sweep()
            await asyncio.sleep(self._every_s)

    async def sweep(self) -> int:
        """Trim every partition once; answers how many events were forgotten."""
        trimmed = 0
        for stream in self._streams:
            retain_ms = span_us(RETAIN if stream.spec.retain is None else stream.spec.retain) // 1000
            expired = Offset(max(0, self._clock_ms() - retain_ms), 0)
            together_ms = min(retain_ms // _TOGETHER, _TOGETHER_MS_MAX)
            overdue = Offset(max(0, expired.ms - together_ms), 0)
            for place in _places(stream):
                committed = await self._mesh.committed(self._readers[place])
                before = min([expired, *committed])
                if stream.spec.archive:
                    before = await self._kept(place, before, overdue)
                trimmed += await self._mesh.trim(place, before)
                if self._keeper is not None:
                    await self._keeper.expire(place)
        self.trimmed += trimmed
        return trimmed

    async def _kept(self, place: Place, before: Offset, overdue: Offset) -> Offset:
        """Before which offset the archive has everything."""
        oldest = await self._mesh.read({place: BEGINNING}, count=1, wait_s=0)
        if not oldest or oldest[0].offset >= min(before, overdue):
            return BEGINNING
        if self._keeper is None:
            if place[0] not in self._told:
                self._told.add(place[0])
                log.warning("%s is declared with archive: true, and there is no archive; it is not trimmed", place[0])
            return BEGINNING
        return await self._keeper.keep(place, before)


def _places(stream: Stream) -> list[Place]:
    return [(stream.name, partition) for partition in range(stream.partitions)]
