"""A worker's tenure of partitions: joined, claimed, restored, run, renewed, given back or lost.

Nobody assigns anything.  Each worker computes from the list of live ones which partitions are its own
(:mod:`pipeline.engine.assignment`), gives back what is not, and claims what is as soon as it is free.  What was claimed is
restored in the background, some partitions at a time, while the lease is renewed and the others run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from pipeline.engine.asking import Asker
from pipeline.engine.assignment import assign
from pipeline.engine.members import Member, members_of
from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.owned import Holdings, Owned
from pipeline.engine.restoring import Restoring, restored_task
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import HaltedError, Memory
from pipeline.engine.watchdog import GIVEN_UP_S
from topology.graph import Stage

log = logging.getLogger(__name__)

TEND_S = 0.5
"""How often, at least, a worker renews its leases and looks who is alive."""
_TEND_AGAIN_S = 0.1
"""How soon, at least, after it was told that the list of live workers changed: many may come at once."""
_CLAIM_AGAIN_S = 0.1
"""How often a worker asks for what its owner before has still to give back."""
_RESTORED_AT_ONCE = 4

Place = tuple[str, int]
"""A stage and a partition."""


@dataclass(slots=True)
class _Underway:
    """A partition that is being restored.

    Attributes:
        again: what was held of it before; None when it has only been claimed.
    """

    stage: Stage
    lease: Lease
    memory: Memory
    again: Owned | None
    progress: Restoring
    task: asyncio.Task[PartitionTask]


@dataclass(slots=True)
class WorkerCounts:
    """What a worker has done since it started."""

    records: int = 0
    commits: int = 0
    outputs: int = 0
    fenced: int = 0
    restored: int = 0
    stalled: int = 0
    given_up: int = 0
    claimed: int = 0
    handed_over: int = 0


@dataclass
class Tenure:
    """What one worker holds.  Everything is done in the worker's own loop, but for the restores.

    Attributes:
        commit: the worker's, for what is given back.
        changed: called when something was restored or failed to be, so that :meth:`tend` is called soon.
        holdings: what can be stepped.
        halted: partitions that were released because their stage halted, and why.
    """

    mesh: Mesh
    stages: Sequence[Stage]
    asker: Asker
    name: str
    lease_s: float
    commit: Callable[[Sequence[Owned]], Awaitable[None]]
    changed: Callable[[], None]
    counts: WorkerCounts
    holdings: Holdings = field(default_factory=dict)
    halted: dict[Place, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stage_of = {stage.id: stage for stage in self.stages}
        self._partitions = {stage.id: stage.partitions for stage in self.stages}
        self._underway: dict[Place, _Underway] = {}
        self._given_up: dict[Place, float] = {}
        self._alive: Mapping[str, str] = {}
        self._mine: frozenset[Place] = frozenset()
        self._tended_at_s = self._tend_at_s = self._claim_at_s = 0.0
        self._restores = asyncio.Semaphore(_RESTORED_AT_ONCE)

    @property
    def places(self) -> Set[Place]:
        """Everything this worker has a lease of; always in the same order, so that a simulation repeats."""
        return dict.fromkeys((*self.holdings, *self._underway)).keys()

    @property
    def restoring(self) -> dict[Place, Restoring]:
        """What is being restored, and how far that has come."""
        return {place: each.progress for place, each in self._underway.items()}

    @property
    def due_s(self) -> float:
        """When :meth:`tend` has something to do, by the loop's clock."""
        return min(self._tend_at_s, self._claim_at_s)

    def holds(self, owned: Owned) -> bool:
        """Whether this is still what is held of its partition."""
        return self.holdings.get(owned.place) is owned

    def hurry(self) -> None:
        """The list of live workers has changed."""
        self._tend_at_s = min(self._tend_at_s, self._tended_at_s + _TEND_AGAIN_S)

    async def tend(self) -> bool:
        """Do what is due; answers whether the leases were looked after.

        Raises:
            MeshUnavailableError: the mesh is away.
            LostWritesError: the mesh's server lost writes.
        """
        now_s = asyncio.get_running_loop().time()
        looking = now_s >= self._tend_at_s
        if looking:
            self._tended_at_s = now_s
            await self._look_who_is_alive(now_s)
            await self._renew()
            await self.hand_over([place for place in self.places if place not in self._mine])
        if looking or now_s >= self._claim_at_s:
            await self._claim(now_s)
        if looking:
            self.asker.cancel_all_but(self.places)
            self._tend_at_s = now_s + min(self.lease_s / 4, TEND_S)
        await self._take_up_what_is_restored()
        return looking

    def restore(self, owned: Owned) -> None:
        """Begin again with what is committed; until then the partition rests."""
        owned.sound = False
        if owned.place not in self._underway:
            self.counts.restored += 1
            self._begin(owned.stage, owned.lease, owned.memory, again=owned)

    async def halt(self, owned: Owned, reason: HaltedError) -> None:
        """Commit what came before, and do not take the partition again."""
        self._note_halt(owned.place, reason)
        await self.hand_over([owned.place])

    async def give_up(self, owned: Owned) -> None:
        """Leave the partition to another worker, uncommitted, and do not take it again for a while."""
        self.counts.given_up += 1
        self._given_up[owned.place] = asyncio.get_running_loop().time() + GIVEN_UP_S
        await self._release([owned.place])

    async def hand_over(self, places: Sequence[Place]) -> None:
        """Commit, then give back: revoked before it is assigned."""
        going = [self.holdings[place] for place in places if place in self.holdings]
        await self.commit([owned for owned in going if owned.sound and owned.task.moved])
        if places:
            self.counts.handed_over += len(places)
            await self._release(places)

    def fenced(self, place: Place, reason: FencedError) -> None:
        """Somebody else owns the partition now, or it was held for too long without a sign of life.

        What was asked for it goes on until it is known that somebody else has it: an answer must not be asked for again.
        """
        if place in self.places:
            log.warning("%s", reason)
            self.counts.fenced += 1
            self._drop(place)

    async def leave(self) -> None:
        """Give everything back, and leave the list of live workers."""
        await self.hand_over(list(self.places))
        await self.mesh.leave(self.name)

    def drop_all(self) -> None:
        """Forget everything that is held; the leases expire."""
        for place in list(self.places):
            self._drop(place)
        self._tend_at_s = self._claim_at_s = 0.0

    async def _look_who_is_alive(self, now_s: float) -> None:
        self._given_up = {place: until_s for place, until_s in self._given_up.items() if until_s > now_s}
        me = Member(self.name, self._partitions, frozenset(self._given_up))
        alive = await self.mesh.join(self.name, self.lease_s, me.takes)
        if alive != self._alive:
            self._alive = alive
            owners = assign(members_of(alive))
            self._mine = frozenset(place for place, owner in owners.items() if owner == self.name)

    async def _renew(self) -> None:
        held = [owned.lease for owned in self.holdings.values()]
        held += [each.lease for each in self._underway.values() if each.again is None]
        if held:
            for lost in await self.mesh.renew(held, self.lease_s):
                self._lost(lost)

    def _lost(self, lease: Lease) -> None:
        place = lease.stage, lease.partition
        held = self.holdings.get(place) or self._underway.get(place)
        if held is not None and held.lease == lease:  # an answer may have come back fenced in the meantime
            self.fenced(place, FencedError(f"the lease of {lease.stage}/{lease.partition} was lost"))

    async def _claim(self, now_s: float) -> None:
        wanted = sorted(self._mine - self.places - self.halted.keys())
        leases = await self.mesh.claim_all(wanted, self.name, self.lease_s) if wanted else []
        for lease in leases:
            if lease is not None:
                self.counts.claimed += 1
                self._begin(self._stage_of[lease.stage], lease, Memory())
        self._claim_at_s = now_s + _CLAIM_AGAIN_S if None in leases else float("inf")

    def _begin(self, stage: Stage, lease: Lease, memory: Memory, again: Owned | None = None) -> None:
        progress = Restoring()
        task = asyncio.create_task(self._restored(stage, lease, memory, progress))
        task.add_done_callback(self._restore_ended)
        self._underway[lease.stage, lease.partition] = _Underway(stage, lease, memory, again, progress, task)

    async def _restored(self, stage: Stage, lease: Lease, memory: Memory, progress: Restoring) -> PartitionTask:
        async with self._restores:
            return await restored_task(self.mesh, stage, lease, memory, progress)

    def _restore_ended(self, task: asyncio.Task[PartitionTask]) -> None:
        if not task.cancelled():
            task.exception()  # whoever waits for it may be gone
            self.changed()

    async def _take_up_what_is_restored(self) -> None:
        for place, each in [(place, each) for place, each in self._underway.items() if each.task.done()]:
            if self._underway.pop(place, None) is not each:
                continue  # lost while another one was dealt with
            try:
                task = each.task.result()
            except HaltedError as reason:
                self._note_halt(place, reason)
                self._underway[place] = each
                await self._release([place])
            except FencedError as reason:
                self._underway[place] = each
                self.fenced(place, reason)
            else:
                self._run(each, task)

    def _run(self, each: _Underway, task: PartitionTask) -> None:
        owned = each.again
        if owned is None:
            owned = Owned(each.stage, each.lease, each.memory, task)
            self.holdings[owned.place] = owned
        else:
            owned.task, owned.sound, owned.touched = task, True, True

    def _note_halt(self, place: Place, reason: HaltedError) -> None:
        log.error("%s", reason)
        self.halted[place] = str(reason)

    async def _release(self, places: Iterable[Place]) -> None:
        leases = []
        for place in places:
            owned, each = self.holdings.get(place), self._underway.get(place)
            leases += [held.lease for held in (owned or each,) if held is not None]
            self._drop(place)
            self.asker.cancel(place)
            if owned is not None:
                await _shut_down(owned)
        await self.mesh.release(*leases)

    def _drop(self, place: Place) -> None:
        underway = self._underway.pop(place, None)
        if underway is not None:
            underway.task.cancel()
        owned = self.holdings.pop(place, None)
        for asking in owned.asking if owned is not None else ():
            asking.cancel()


async def _shut_down(owned: Owned) -> None:
    for agent in owned.task.agents:
        try:
            await agent.shutdown()
        except Exception:  # its last commit is made; the others must not suffer
            log.exception("an agent of %s/%s could not shut down", *owned.place)
