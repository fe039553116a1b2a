"""Carries what commits on a Redis Cluster put into outboxes to where it belongs: in order, and once.

There is one outbox per slot, and one forwarder of it at a time, by a lease as for a stage's partition.  It appends a
batch, commits how far it has come, and only then begins the next batch.  Whatever kills it in between, its successor
appends the same batch again, and the partitions know what came to them of it (``forward.lua``).  What a forwarder sends
that was replaced without noticing is refused there by its token.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.assignment import assign
from pipeline.engine.cluster import all_of
from pipeline.engine.keys import OUTBOX, slot_of
from pipeline.engine.members import Member
from pipeline.engine.mesh import FencedError, Lease
from pipeline.engine.outbox import ENTRIES_PER_BATCH, by_slot, opened
from pipeline.engine.record import Commit, Offset, Record
from pipeline.engine.redis_mesh import RedisMesh
from topology.graph import Topology

log = logging.getLogger(__name__)

STAGE = "~forwarder"
"""The name it has among the owners of partitions, and as a consumer group of the outboxes."""
_TEND_S = 0.5
_AT_ONCE = 8
"""So many slots are written to at the same time for one outbox."""


@dataclass(slots=True)
class _Held:
    lease: Lease
    offset: Offset


class Forwarder:
    """Forwards from its share of the outboxes of a deployment; does nothing where there is no cluster.

    Args:
        name: of the worker it runs beside.

    Attributes:
        forwarded: events appended since the start; what was there already is not counted.
    """

    def __init__(self, mesh: RedisMesh, topology: Topology, *, name: str, lease_s: float = 5.0) -> None:
        self._mesh = mesh
        counts = [stage.partitions for stage in topology.stages]
        counts += [stream.partitions for stream in topology.streams.values()]
        self._slots = sorted({slot_of(partition) for partition in range(max(counts, default=1))})
        self._name = name
        self._lease_s = lease_s
        self._held: dict[int, _Held] = {}
        self._orphans: set[int] = set()
        self._tend_at_s = 0.0
        self._look_for_orphans_at_s = 0.0
        self.forwarded = 0

    @property
    def slots(self) -> list[int]:
        """Whose outboxes it forwards from now."""
        return sorted(self._held)

    async def run(self) -> None:
        """Forward until cancelled; raises ``MeshUnavailableError`` when the mesh is away."""
        await self._mesh.ping()
        if not self._mesh.clustered:
            await asyncio.Event().wait()
        try:
            while True:
                await self.step(wait_s=min(_TEND_S, self._lease_s / 4))
        finally:
            self._tend_at_s = self._look_for_orphans_at_s = 0.0
            await self._give_back(list(self._held.values()))

    async def step(self, *, wait_s: float) -> int:
        """Forward one batch of each outbox; answers how many entries that was."""
        await self._tend()
        if not self._held:
            await asyncio.sleep(wait_s)
            return 0
        offsets = {(OUTBOX, slot): held.offset for slot, held in self._held.items()}
        batches: dict[int, list[Record]] = defaultdict(list)
        for record in await self._mesh.read(offsets, count=ENTRIES_PER_BATCH, wait_s=wait_s):
            batches[record.partition].append(record)
        await all_of(self._forward(slot, batch) for slot, batch in batches.items())
        return sum(len(batch) for batch in batches.values())

    async def _tend(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._tend_at_s:
            return
        for lost in await self._mesh.renew([held.lease for held in self._held.values()], self._lease_s):
            self._drop(lost, FencedError(f"the lease of {STAGE}/{lost.partition} was lost"))
        mine = await self._share(now_s)
        await self._give_back([held for slot, held in self._held.items() if slot not in mine])
        free = [(STAGE, slot) for slot in sorted(mine - self._held.keys())]
        for lease in await self._mesh.claim_all(free, self._name, self._lease_s) if free else ():
            if lease is not None:
                place = OUTBOX, lease.partition
                self._held[lease.partition] = _Held(lease, (await self._mesh.restore(lease, [place])).offsets[place])
        self._orphans &= self._held.keys()
        self._tend_at_s = now_s + min(_TEND_S, self._lease_s / 4)

    async def _share(self, now_s: float) -> set[int]:
        """An even share among the live workers, each of which has a forwarder; now and then also what is left lying."""
        names = {*await self._mesh.alive(), self._name}
        owners = assign(Member(name, {STAGE: len(self._slots)}) for name in names)
        mine = {slot for slot in self._slots if owners[STAGE, slot] == self._name}
        if now_s >= self._look_for_orphans_at_s:
            if self._look_for_orphans_at_s:
                # What was taken last time is let go first, in case its owner has come back.
                self._orphans = set(self._slots) - mine - self._orphans
            self._look_for_orphans_at_s = now_s + 2 * self._lease_s
        return mine | self._orphans

    async def _give_back(self, all_held: Sequence[_Held]) -> None:
        for held in all_held:
            del self._held[held.lease.partition]
        await self._mesh.release(*(held.lease for held in all_held))

    async def _forward(self, slot: int, batch: Sequence[Record]) -> None:
        held, place = self._held[slot], (OUTBOX, slot)
        commit = Commit(STAGE, slot, {place: batch[-1].offset}, {place: len(batch)})
        try:
            groups = by_slot(batch, lambda entry: opened(entry).partition)
            for first in range(0, len(groups), _AT_ONCE):
                some = groups[first : first + _AT_ONCE]
                new = await all_of(self._mesh.forward(held.lease, group) for group in some)
                self.forwarded += sum(new)
            for fenced in await self._mesh.commit([(held.lease, commit)]):
                if fenced is not None:
                    raise fenced
        except FencedError as reason:
            self._drop(held.lease, reason)
            await self._mesh.release(held.lease)
            return
        held.offset = batch[-1].offset
        await self._mesh.trim(place, held.offset._replace(seq=held.offset.seq + 1))

    def _drop(self, lease: Lease, reason: FencedError) -> None:
        log.warning("%s", reason)
        self._held.pop(lease.partition, None)
