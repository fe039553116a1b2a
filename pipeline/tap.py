"""Listens in on streams without being a consumer: for people, for trials; nothing is committed, nothing is held up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset, Record
from topology.graph import Stream


async def tap(
    mesh: Mesh, streams: Iterable[Stream], *, since: Offset | None = None, wait_s: float = 1.0
) -> AsyncIterator[list[Record]]:
    """Batches of records as they come, in order of offset; an empty batch when nothing came for ``wait_s``.

    Args:
        since: where to begin; by default now.  ``BEGINNING`` gives everything the mesh still has.

    Raises:
        MeshUnavailableError: the mesh went away; tap again from the last record's offset.
    """
    start = since if since is not None else now()
    places = {(stream.name, partition): start for stream in streams for partition in range(stream.partitions)}
    while True:
        records = await mesh.read(places, count=500, wait_s=wait_s)
        records.sort(key=lambda record: (record.offset, record.stream, record.partition))
        for record in records:
            place = record.stream, record.partition
            places[place] = max(places[place], record.offset)
        yield records


def now() -> Offset:
    """The offset of the present: what is put on a stream from now on comes after it."""
    return Offset(time.time_ns() // 1_000_000, 0)


__all__ = ["BEGINNING", "now", "tap"]
