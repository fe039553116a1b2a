"""Forgets what everybody has read and nobody wants to keep, so that the mesh does not grow for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import Offset, Place
from topology.graph import Stream, Topology
from topology.moments import span_us

RETAIN = timedelta(hours=24)
"""How long a stream keeps events that every consumer has read, when it does not declare it."""
SWEEP_S = 60.0


class Janitor:
    """Trims the streams of a topology, and those every topology has.

    An event goes when all consumers of its stream have committed past it and it is older than the stream's ``retain``:
    what a consumer has not committed is never trimmed, however old it is.  Harmless to run in several workers.

    Args:
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
        every_s: float = SWEEP_S,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._mesh = mesh
        self._streams = [*topology.streams.values(), *OPERATION_STREAMS]
        self._readers: dict[Place, list[tuple[str, int, Place]]] = {
            (stream.name, partition): [] for stream in self._streams for partition in range(stream.partitions)
        }
        for stage in topology.stages:
            for stream in stage.inputs:
                for place in _places(stream):
                    self._readers[place].append((stage.id, place[1], place))
        for consumer, streams in consumers:
            for stream in streams:
                for place in _places(stream):
                    self._readers[place].append((consumer, 0, place))
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
            for place in _places(stream):
                committed = await self._mesh.committed(self._readers[place])
                trimmed += await self._mesh.trim(place, min([expired, *committed]))
        self.trimmed += trimmed
        return trimmed


def _places(stream: Stream) -> list[Place]:
    return [(stream.name, partition) for partition in range(stream.partitions)]
