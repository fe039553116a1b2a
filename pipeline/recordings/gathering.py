"""Takes what several streams said out of the live mesh and its archives, in one order."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing

from pipeline.archive.folder import Archive
from pipeline.archive.history import read_history
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset, Record
from topology.graph import Stream


async def gathered(
    mesh: Mesh,
    archive: Archive,
    streams: Iterable[Stream],
    since: Offset = BEGINNING,
    until: Offset | None = None,
    *,
    salvage: bool = False,
) -> AsyncGenerator[Record, None]:
    """Every record of these streams, once, in order of offset, then of stream and partition.

    With an ``until`` that has passed, what stages concluded is there with what they concluded it from: no stream is read
    to a later moment than another.

    Raises:
        As :func:`pipeline.archive.history.read_history`.
    """
    async with AsyncExitStack() as stack:
        heads: list[tuple[Offset, str, int, Record, AsyncGenerator[Record, None]]] = []
        for stream in streams:
            records = await stack.enter_async_context(
                aclosing(read_history(mesh, archive, stream, since, until, salvage=salvage))
            )
            first = await anext(records, None)
            if first is not None:
                heads.append((first.offset, first.stream, first.partition, first, records))
        heapq.heapify(heads)
        while heads:
            *_, record, records = heads[0]
            yield record
            following = await anext(records, None)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.offset, following.stream, following.partition, following, records))
