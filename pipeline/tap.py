"""Listens in on streams without being a consumer: for people, for trials; nothing is committed, nothing is held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta

from pipeline.engine.mesh import Mesh
from pipeline.engine.record import Offset, Place, Record
from topology.graph import Stream

_RECORDS_PER_READ = 500
_PAUSE_S = 0.05
"""A tap that keeps up reads so often and not at every commit: on the server that is less work than anything else."""


async def tap(
    mesh: Mesh, streams: Iterable[Stream], *, since: Mapping[str, Offset] | Offset | None = None, wait_s: float = 1.0
) -> AsyncIterator[list[Record]]:
    """Batches of records as they come, in order of offset; an empty batch when nothing came for ``wait_s``.

    Args:
        since: where to begin, in all streams or by stream; by default now.  ``BEGINNING`` gives everything the mesh
            still has.

    Raises:
        MeshUnavailableError: the mesh went away; tap again from the last record's offset.
    """
    present = now()
    places: dict[Place, Offset] = {}
    for stream in streams:
        start = since if isinstance(since, Offset) else (since or {}).get(stream.name, present)
        places.update({(stream.name, partition): start for partition in range(stream.partitions)})
    while True:
        records = await mesh.read(places, count=_RECORDS_PER_READ, wait_s=wait_s)
        records.sort(key=lambda record: (record.offset, record.stream, record.partition))
        for record in records:
            place = record.stream, record.partition
            places[place] = max(places[place], record.offset)
        yield records
        if 0 < len(records) < _RECORDS_PER_READ:
            await asyncio.sleep(_PAUSE_S)


def now() -> Offset:
    """The offset of the present: what is put on a stream from now on comes after it."""
    return ago(timedelta(0))


def ago(duration: timedelta) -> Offset:
    """The offset so long before the present."""
    return Offset(time.time_ns() // 1_000_000 - int(duration.total_seconds() * 1000), 0)
