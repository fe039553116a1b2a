"""Reads a stream from any moment on: out of the archive as far as that reaches, then out of the mesh."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing

from pipeline.archive.archivist import archived_through
from pipeline.archive.folder import Archive
from pipeline.archive.segment import ArchiveError, Header, Span
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset, Place, Record
from topology.graph import Stream

log = logging.getLogger(__name__)

_RECORDS_PER_READ = 1_000


class ArchiveGapError(ArchiveError):
    """Something that was archived is not there."""


async def read_history(
    mesh: Mesh,
    archive: Archive,
    stream: Stream,
    since: Offset | Mapping[Place, Offset] = BEGINNING,
    until: Offset | None = None,
    *,
    salvage: bool = False,
) -> AsyncGenerator[Record, None]:
    """Every record of a stream, once, in order of offset; also while it is archived and trimmed.

    It begins with the oldest there is where ``since`` lies before that.  Of equal offsets the lower partition comes first.

    Args:
        since: only what comes after it, in all partitions or by partition.
        until: only what comes up to it; by default everything, to where the mesh has no more.
        salvage: leave out what is damaged or missing, and log it, instead of raising.

    Raises:
        DamagedSegmentError: a file of the archive is not what was written.
        ArchiveGapError: a part of the archive is missing, or is somewhere else.
        MeshUnavailableError: the mesh is away; go on from the last offset of each partition.
    """
    async with AsyncExitStack() as stack:
        heads: list[tuple[Offset, int, int, list[Record], AsyncGenerator[list[Record], None]]] = []
        for partition in range(stream.partitions):
            place = (stream.name, partition)
            start = since if isinstance(since, Offset) else since.get(place, BEGINNING)
            reader = _PartitionReader(mesh, archive, place, start, until, salvage=salvage)
            batches = await stack.enter_async_context(aclosing(reader.batches()))
            first = await anext(batches, None)
            if first:
                heads.append((first[0].offset, partition, 0, first, batches))
        heapq.heapify(heads)
        while heads:
            _, partition, number, records, batches = heads[0]
            yield records[number]
            number += 1
            if number == len(records):
                number, records = 0, await anext(batches, [])
            if records:
                heapq.heapreplace(heads, (records[number].offset, partition, number, records, batches))
            else:
                heapq.heappop(heads)


class _PartitionReader:
    def __init__(
        self, mesh: Mesh, archive: Archive, place: Place, since: Offset, until: Offset | None, *, salvage: bool
    ) -> None:
        self._mesh = mesh
        self._archive = archive
        self._place = place
        self._position = since
        self._until = until
        self._salvage = salvage
        self._begun = False
        """Whether what comes next must follow on what came before."""

    async def batches(self) -> AsyncGenerator[list[Record], None]:
        """Records until there are no more; never an empty batch."""
        while self._until is None or self._position < self._until:
            span = await self._next_span()
            if span is not None:
                records, reached = await self._from_archive(span)
            else:
                found = await self._from_mesh()
                if found is None:
                    continue
                if not found:
                    return
                records, reached = found, found[-1].offset
            fresh = [record for record in records if self._is_wanted(record)]
            self._position = max(self._position, reached)
            self._begun = self._begun or bool(records)
            if fresh:
                yield fresh

    def _is_wanted(self, record: Record) -> bool:
        return record.offset > self._position and (self._until is None or record.offset <= self._until)

    async def _next_span(self) -> Span | None:
        spans = await asyncio.to_thread(self._archive.spans, self._place)
        return next((span for span in spans if span.last > self._position), None)

    async def _from_archive(self, span: Span) -> tuple[list[Record], Offset]:
        try:
            segment = await asyncio.to_thread(self._archive.read, self._place, span, salvage=self._salvage)
        except FileNotFoundError:
            return [], self._position  # removed since it was listed
        if segment.damage:
            log.warning("%s; %d of its events could be read", segment.damage, len(segment.records))
        if segment.header is not None:
            await self._see_what_came_before(segment.header)
        return segment.records, span.last

    async def _see_what_came_before(self, header: Header) -> None:
        reached = await self._reached()
        if header.after > reached:
            spans = await asyncio.to_thread(self._archive.spans, self._place)
            if self._begun or reached > self._position or spans[0].first < header.first:
                self._miss(reached, header.after, "the files between are not there")
            # Nothing before this segment is there: here the archive begins.

    async def _from_mesh(self) -> list[Record] | None:
        """Records after all segments; None when the archive has something before them by now."""
        found = await self._mesh.read({self._place: self._position}, count=_RECORDS_PER_READ, wait_s=0)
        # In this order: what was trimmed before the first of them had been archived by then, and committed as archived.
        through = await archived_through(self._mesh, self._place)
        spans = await asyncio.to_thread(self._archive.spans, self._place)
        if any(span.last > self._position and (not found or span.first < found[0].offset) for span in spans):
            return None
        reached = max([await self._reached(), *(span.last for span in spans)])
        if through > reached:
            self._miss(reached, through, "they were archived by a worker whose AIOPS_ARCHIVE_DIR is another folder")
        return found

    async def _reached(self) -> Offset:
        """Up to here nothing can be missing: it was read, not asked for, or removed on purpose before the beginning."""
        if self._begun:
            return self._position
        return max(self._position, await asyncio.to_thread(self._archive.expired_through, self._place))

    def _miss(self, after: Offset, through: Offset, why: str) -> None:
        msg = (
            f"{self._archive.folder}: events of {self._place[0]}/{self._place[1]} after {after} and up to {through} are "
            f"missing: {why}. Bring them here, or read what there is with salvage (`--salvage`)"
        )
        if not self._salvage:
            raise ArchiveGapError(msg)
        log.warning("%s", msg)
