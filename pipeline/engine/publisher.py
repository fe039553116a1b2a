"""How sources put events on a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from pipeline.engine.inputs import stream_partitions
from pipeline.engine.mesh import Mesh
from pipeline.engine.pressure import BackPressure, StreamFullError
from pipeline.engine.record import output_for
from topology.errors import TopologyError
from topology.event import Event, Payload
from topology.graph import Stream

Publish = Callable[[Sequence[Event[Payload]]], Awaitable[int]]
"""Durable when it returns; answers how many were new; raises ``RetryableError`` when the mesh cannot take them now."""


class Publisher:
    """A ``Publish`` for one stream of a mesh; raises ``PartitionsChangedError`` where the mesh has it otherwise.

    Args:
        pressure: says when the stream is full; then nothing is published, and ``StreamFullError`` is raised.

    Attributes:
        published: events that were new, since the start.
        repeated: events that were dropped as repetitions.
    """

    def __init__(self, mesh: Mesh, stream: Stream, pressure: BackPressure | None = None) -> None:
        self._mesh = mesh
        self._stream = stream
        self._pressure = pressure
        self._declared = False
        self.published = 0
        self.repeated = 0

    @property
    def trouble(self) -> str:
        """Why nothing is published now, as far as is known; empty when all is well."""
        return "" if self._pressure is None else self._pressure.full.get(self._stream.name, "")

    def check(self, events: Sequence[Event[Payload]]) -> None:
        """Raise ``TopologyError`` when the stream does not carry an event."""
        for event in events:
            if not self._stream.accepts(type(event.payload)):
                carried = ", ".join(sorted(payload.__name__ for payload in self._stream.carries))
                msg = f"stream {self._stream.name!r} carries {carried}, not {type(event.payload).__name__}"
                raise TopologyError(msg)

    async def __call__(self, events: Sequence[Event[Payload]]) -> int:
        self.check(events)
        if not self._declared:
            await self._mesh.declare(dict([stream_partitions(self._stream)]))
            self._declared = True
        if self._pressure is not None:
            await self._pressure.look(asyncio.get_running_loop().time())
            if full := self.trouble:
                raise StreamFullError(full)
        new = await self._mesh.publish([output_for(self._stream, event) for event in events])
        self.published += new
        self.repeated += len(events) - new
        return new
