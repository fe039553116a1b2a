"""How archives come about: what a partition is about to forget becomes segments first.

How far a partition is archived is committed in the mesh, under a lease, so that of several workers one archives and all
know what may be forgotten.  The order is file, commit, trim; whoever is killed between two of them has lost nothing: a
file without a commit is found, compared with the mesh and taken over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from uuid import uuid4

from pipeline.archive.folder import Archive
from pipeline.archive.segment import ArchiveError, DamagedSegmentError, Span
from pipeline.engine.mesh import Lease, Mesh, MeshUnavailableError
from pipeline.engine.record import BEGINNING, Commit, Offset, Place, Record
from topology.moments import span_us

log = logging.getLogger(__name__)

LEASE_S = 60.0
"""Longer than the slowest disk takes for one segment."""
_ROW = "archived"
_RECORDS_PER_READ = 1_000
SEGMENT_RECORDS = 20_000
SEGMENT_BYTES = 8_000_000
"""A segment is held in memory when it is written, and when it is read."""


async def archived_through(mesh: Mesh, place: Place) -> Offset:
    """Up to here a partition is archived, by whomever; ``BEGINNING`` when it never was."""
    restored = await mesh.restore(Lease(_stage(place), place[1], token=""), [])
    return _through(restored.state)


class Archivist:
    """Keeps what the janitor is about to trim; see :class:`pipeline.engine.retention.Keeper`.

    Args:
        retain: how long archived events are kept; None for ever.
        lease_s: how long nobody else archives a partition whose archivist was killed.
        clock_ms: milliseconds since the epoch, as the mesh's offsets count them.

    Attributes:
        archived: events written to segments since the start.
        segments: how many segments that was.
        expired: events removed from the archive because of their age.
    """

    def __init__(
        self,
        mesh: Mesh,
        archive: Archive,
        *,
        retain: timedelta | None = None,
        lease_s: float = LEASE_S,
        segment_records: int = SEGMENT_RECORDS,
        segment_bytes: int = SEGMENT_BYTES,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._mesh = mesh
        self._archive = archive
        self._retain = retain
        self._lease_s = lease_s
        self._segment_records = segment_records
        self._segment_bytes = segment_bytes
        self._clock_ms = clock_ms
        self._name = uuid4().hex
        self._troubles: dict[Place, str] = {}
        self._elsewhere: set[Place] = set()
        self._not_removed: set[Place] = set()
        self.archived = self.segments = self.expired = 0

    @property
    def trouble(self) -> str:
        """Why something cannot be archived, and so is not trimmed either; empty when all is well."""
        if not self._troubles:
            return ""
        (stream, partition), reason = next(iter(self._troubles.items()))
        more = f" and {len(self._troubles) - 1} more partitions" if len(self._troubles) > 1 else ""
        return f"{stream}/{partition}{more} cannot be archived, so nothing of it is trimmed: {reason}"

    async def keep(self, place: Place, before: Offset) -> Offset:
        """Archive the records before an offset; answers the offset before which they are, as far as it came.

        What the disk does not take stays in the mesh, is said in ``trouble``, and is tried again by the next call.

        Raises:
            MeshUnavailableError: the mesh is away; what was answered before holds.
        """
        lease = await self._mesh.claim(_stage(place), place[1], self._name, self._lease_s)
        if lease is None:
            return BEGINNING  # somebody else is at it, and trims what it has archived
        try:
            through = await self._keep(lease, place, before)
        finally:
            with suppress(MeshUnavailableError):  # it expires by itself
                await self._mesh.release(lease)
        return min(before, Offset(through.ms, through.seq + 1))

    async def expire(self, place: Place) -> None:
        """Remove segments that are older than the archive keeps them."""
        if self._retain is None:
            return
        before_ms = self._clock_ms() - span_us(self._retain) // 1000
        try:
            segments, events = await asyncio.to_thread(self._archive.expire, place, before_ms)
        except OSError as error:
            if place not in self._not_removed:
                log.warning(
                    "segments of %s/%d that are older than %s cannot be removed: %s", *place, self._retain, error
                )
            self._not_removed.add(place)
            return
        self._not_removed.discard(place)
        if segments:
            self.expired += events
            log.info("%d segments of %s/%d with %d events are older than %s", segments, *place, events, self._retain)

    async def _keep(self, lease: Lease, place: Place, before: Offset) -> Offset:
        """Answers how far the partition is archived, also when the disk took a part only."""
        through = _through((await self._mesh.restore(lease, [])).state)
        try:
            async with aclosing(self._segments(place, through, before)) as segments:
                async for reached in segments:
                    if not await self._commit(lease, reached):
                        break
                    through = reached
        except (ArchiveError, OSError) as error:
            self._failed(place, error)
        else:
            self._worked(place)
        return through

    async def _segments(self, place: Place, through: Offset, before: Offset) -> AsyncGenerator[Offset, None]:
        """Write one segment after the other; each offset it yields is to be committed before the next is written."""
        await asyncio.to_thread(self._archive.tidy, place)
        found = await self._taken_over(place, through)
        if found > through:
            through = found
            yield through
        while records := await self._next(place, through, before):
            await asyncio.to_thread(self._archive.write, place, records, through)
            self.segments += 1
            self.archived += len(records)
            through = records[-1].offset
            yield through

    async def _next(self, place: Place, after: Offset, before: Offset) -> list[Record]:
        records: list[Record] = []
        size = 0
        while found := await self._mesh.read({place: after}, count=_RECORDS_PER_READ, wait_s=0):
            for record in found:
                if record.offset >= before or len(records) >= self._segment_records or size >= self._segment_bytes:
                    return records
                records.append(record)
                size += len(record.value) + len(record.key)
            after = records[-1].offset
        return records

    async def _taken_over(self, place: Place, through: Offset) -> Offset:
        """How far segments reach of which no commit tells: who wrote them was killed, or the server forgot the commit."""
        spans = await asyncio.to_thread(self._archive.spans, place)
        if through > max((span.last for span in spans), default=BEGINNING):
            await self._tell_of_others(place, through)
        for span in spans:
            if span.last <= through:
                continue
            if not await self._is_what_the_mesh_has(place, span, through):
                break
            through = span.last
        return through

    async def _is_what_the_mesh_has(self, place: Place, span: Span, after: Offset) -> bool:
        records = await self._up_to(place, after, span.last)
        if not records:
            return True  # trimmed, and nobody could write it again
        try:
            segment = await asyncio.to_thread(self._archive.read, place, span)
        except DamagedSegmentError as damage:
            log.error("%s. It is set aside and written anew, for the mesh still has its events", damage)  # noqa: TRY400
            await asyncio.to_thread(self._archive.set_aside, place, span)
            return False
        known = {record.offset: record for record in segment.records}
        for record in records:
            twin = known.get(record.offset)
            if twin is None and segment.header is not None and record.offset <= segment.header.after:
                return False  # between this segment and the one before it something is to be archived yet
            if twin is None or (twin.value, twin.key) != (record.value, record.key):
                msg = (
                    f"{self._archive.path_of(place, span)} reaches to {span.last}, but does not have event {record.offset} "
                    f"of the mesh: the server's clock was put back, or the archive belongs to another deployment. Set "
                    f"AIOPS_ARCHIVE_DIR to a new folder"
                )
                raise ArchiveError(msg)
        return True

    async def _up_to(self, place: Place, after: Offset, last: Offset) -> list[Record]:
        records: list[Record] = []
        while found := await self._mesh.read({place: after}, count=_RECORDS_PER_READ, wait_s=0):
            records += [record for record in found if record.offset <= last]
            after = found[-1].offset
            if after >= last:
                break
        return records

    async def _tell_of_others(self, place: Place, through: Offset) -> None:
        expired = await asyncio.to_thread(self._archive.expired_through, place)
        if through > expired and place not in self._elsewhere:
            log.warning(
                "%s/%d is archived up to %s, but not all of it in %s. Let AIOPS_ARCHIVE_DIR of all workers name one folder",
                *(*place, through, self._archive.folder),
            )
            self._elsewhere.add(place)

    async def _commit(self, lease: Lease, through: Offset) -> bool:
        """False when somebody else is the archivist now."""
        commit = Commit(lease.stage, lease.partition, offsets={}, state={_ROW: str(through).encode()})
        (fenced,) = await self._mesh.commit([(lease, commit)])
        return fenced is None and not await self._mesh.renew([lease], self._lease_s)

    def _failed(self, place: Place, error: Exception) -> None:
        if place not in self._troubles:
            log.error("%s/%d cannot be archived, so nothing of it is trimmed: %s", *place, error)
        self._troubles[place] = str(error)

    def _worked(self, place: Place) -> None:
        if self._troubles.pop(place, None) is not None:
            log.warning("%s/%d can be archived again", *place)


def _stage(place: Place) -> str:
    return f"~archive-{place[0]}"


def _through(state: Mapping[str, bytes]) -> Offset:
    return Offset.parse(state.get(_ROW, b"0-0"))
