"""A worker: owns partitions of stages, reads for all of them at once, and commits what they conclude.

One loop does it all, so that nothing a task holds can change while a commit is on its way:
tend the leases -> read -> let every task step -> commit -> again.  Answers of the world come in from tasks of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import orjson

from pipeline.engine.asking import Asker, Handlers, failed
from pipeline.engine.attempt import OpenQuestion
from pipeline.engine.garbage import look_for_cycles_rarely
from pipeline.engine.inputs import inputs_of, partitions_of
from pipeline.engine.members import Member, owner_among
from pipeline.engine.mesh import FencedError, Lease, LostWritesError, Mesh, MeshUnavailableError
from pipeline.engine.owned import Holdings, Owned
from pipeline.engine.reading import Reader
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import HaltedError, Memory, MustRestoreError
from pipeline.engine.watchdog import GIVEN_UP_S, STALLED_S, Stall, Watchdog
from topology.graph import Stage, Topology

log = logging.getLogger(__name__)

RECORDS_PER_STEP = 100
BUSY_S = 0.25
"""After working this long the worker commits and looks after its leases, however much there is still to do."""
TEND_S = 0.5
"""How often, at least, a worker renews its leases and looks for orphans."""
QUIET_COMMIT_S = 2.0
"""How long a commit may wait that only says how far the task has come."""
_RECORD_AGAIN_S = 0.25


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


class Worker:
    """Runs stages of a topology on a mesh until it is stopped.

    Several workers share the partitions: each claims those that rendezvous hashing gives it among the live ones.

    Args:
        name: unique among live workers.
        lease_s: how long the partitions of a dead worker stay orphaned.
        stalled_s: how long a partition may stand still while its lag grows before it is restarted.
    """

    def __init__(
        self,
        mesh: Mesh,
        topology: Topology,
        handlers: Handlers,
        *,
        name: str,
        stages: Iterable[str] | None = None,
        lease_s: float = 5.0,
        stalled_s: float = STALLED_S,
    ) -> None:
        wanted = None if stages is None else set(stages)
        self._mesh = mesh
        self._partitions = partitions_of(topology)
        self._stages = [stage for stage in topology.stages if wanted is None or stage.id in wanted]
        self._asker = Asker(handlers)
        self._name = name
        self._lease_s = lease_s
        self._owned: Holdings = {}
        self._halted: dict[tuple[str, int], str] = {}
        self._watchdog = Watchdog(mesh, stalled_s=stalled_s)
        self._given_up: dict[tuple[str, int], float] = {}
        self._member = Member(name, None if wanted is None else frozenset(wanted))
        self._tend_at_s = 0.0
        self._wake = asyncio.Event()
        self._stopping = False
        self.counts = WorkerCounts()

    @property
    def owned(self) -> Sequence[tuple[str, int]]:
        """The (stage, partition) pairs held now, sorted."""
        return sorted(self._owned)

    @property
    def halted(self) -> dict[tuple[str, int], str]:
        """Partitions whose stage halted, at a poisoned event or before it could begin, and why."""
        return dict(self._halted)

    @property
    def troubles(self) -> list[str]:
        """What stands still, and why."""
        return [*self._watchdog.troubles.values(), *self._halted.values()]

    def stop(self) -> None:
        """Ask :meth:`run` to finish what it has in hand, give its partitions back, and return."""
        self._stopping = True
        self._wake.set()
        self._asker.cancel_all_but(self._owned)

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            MeshUnavailableError: the mesh is away; run again later, nothing is lost.
            LostWritesError: the mesh's server lost writes; somebody must decide.
            PartitionsChangedError: keys would miss their state; nothing was done.
        """
        self._stopping = False
        look_for_cycles_rarely()
        reader = Reader(self._mesh, self._owned, self._wake)
        clock = asyncio.get_running_loop()
        await self._mesh.declare(self._partitions)
        try:
            while not self._stopping:
                if await self._tend_leases():
                    await reader.cancel()
                self.counts.records += await reader.next(max(0.0, self._tend_at_s - clock.time()))
                await self._step()
        finally:
            await reader.cancel()
            await self._give_back()

    async def _step(self) -> None:
        clock = asyncio.get_running_loop()
        until_s = clock.time() + BUSY_S
        while ready := [owned for owned in self._owned.values() if owned.sound and owned.task.ready]:
            for owned in ready:
                if self._holds(owned):
                    await self._step_one(owned)
            if clock.time() > until_s:
                self._wake.set()
                break
        now_s = clock.time()
        await self._commit([owned for owned in self._owned.values() if _is_due(owned, now_s)])

    async def _step_one(self, owned: Owned) -> None:
        try:
            owned.task.step(RECORDS_PER_STEP)
        except MustRestoreError as reason:
            log.info("%s; the partition is restored from its last commit", reason)
            await self._restore(owned)
        except HaltedError as reason:
            self._halt(owned.lease, reason)
            await self._hand_over(owned)
        except (Exception, asyncio.CancelledError) as error:  # nothing in a step can be cancelled: an agent raised it
            owned.sound = False
            log.exception("%s/%s is restarted: its step failed", *owned.place)
            self._watchdog.failed(owned, error, asyncio.get_running_loop().time())
        except BaseException:
            owned.sound = False
            raise
        if self._holds(owned):
            for question in owned.task.take_questions():
                asking = asyncio.create_task(self._ask(owned, question))
                owned.asking.add(asking)
                asking.add_done_callback(owned.asking.discard)

    async def _commit(self, due: Sequence[Owned]) -> None:
        if not due:
            return
        commits = [(owned.lease, owned.task.take_commit()) for owned in due]
        try:
            outcomes = await self._mesh.commit(commits)
        except BaseException:
            for owned in due:
                owned.sound = False  # nobody knows what took effect
            raise
        now_s = asyncio.get_running_loop().time()
        for owned, (_, commit), fenced in zip(due, commits, outcomes, strict=True):
            owned.committed_at_s = now_s
            if fenced is None:
                self.counts.commits += 1
                self.counts.outputs += len(commit.outputs)
            else:
                self._fenced(owned, fenced)

    async def _ask(self, owned: Owned, question: OpenQuestion) -> None:
        retry = owned.stage.spec.retry
        try:
            answer = await self._asker.answer(owned.place, question, retry)
            await self._record(owned, question.key, orjson.dumps(answer))
        except FencedError as fenced:
            self._fenced(owned, fenced)
        except Exception as error:  # noqa: BLE001 - the task's boundary: the event becomes a dead letter with this reason
            owned.task.answer(question, failed(question.question, error, retry))
        else:
            owned.task.answer(question, answer)
        self._asker.forget(owned.place, question)
        self._wake.set()

    async def _record(self, owned: Owned, key: str, answer: bytes) -> None:
        while True:
            try:
                return await self._mesh.record_answer(owned.lease, key, answer)
            except MeshUnavailableError:
                await asyncio.sleep(_RECORD_AGAIN_S)  # an answer that was given must not be asked for again

    async def _tend_leases(self) -> bool:
        """Answers whether the set of partitions changed."""
        clock = asyncio.get_running_loop()
        started_s = clock.time()
        if started_s < self._tend_at_s:
            return False
        before = set(self._owned)
        members = await self._join()
        for lease in await self._mesh.renew([owned.lease for owned in self._owned.values()], self._lease_s):
            owned = self._owned.get((lease.stage, lease.partition))
            if owned is not None and owned.lease == lease:  # an answer may have come back fenced in the meantime
                self._fenced(owned, FencedError(f"the lease of {lease.stage}/{lease.partition} was lost"))
        for stage in self._stages:
            for partition in range(stage.partitions):
                await self._take_or_leave(
                    stage, partition, mine=owner_among(stage.id, partition, members) == self._name
                )
            if clock.time() - started_s > self._lease_s / 4:
                break  # large tables take long to restore; the leases held already come first
        else:
            self._asker.cancel_all_but(self._owned)
        for stall in await self._watchdog.look(list(self._owned.values()), clock.time()):
            await self._deal_with(stall)
        self._tend_at_s = started_s + min(self._lease_s / 4, TEND_S)
        return before != set(self._owned)

    async def _join(self) -> list[Member]:
        """Say what this worker takes; answers what every live one does."""
        now_s = asyncio.get_running_loop().time()
        self._given_up = {place: until_s for place, until_s in self._given_up.items() if until_s > now_s}
        without = frozenset(f"{stage}/{partition}" for stage, partition in self._given_up)
        if without != self._member.without:
            await self._mesh.leave(self._member.entry)
            self._member = replace(self._member, without=without)
        return [Member.of(entry) for entry in await self._mesh.join(self._member.entry, self._lease_s)]

    async def _deal_with(self, stall: Stall) -> None:
        owned = stall.owned
        if not self._holds(owned):
            return
        self.counts.stalled += 1
        self._asker.cancel(owned.place)  # whatever it waits for is asked for again
        for asking in owned.asking:
            asking.cancel()
        if stall.give_up:
            log.error("%s; it is left to another worker", stall.reason)
            self.counts.given_up += 1
            self._given_up[owned.place] = asyncio.get_running_loop().time() + GIVEN_UP_S
            await self._release(owned)
        else:
            log.error("%s; it is restored from its last commit", stall.reason)
            owned.memory = Memory()
            await self._restore(owned)

    async def _take_or_leave(self, stage: Stage, partition: int, *, mine: bool) -> None:
        owned = self._owned.get((stage.id, partition))
        if owned is not None and not mine:
            await self._hand_over(owned)
        elif owned is None and mine and (stage.id, partition) not in self._halted:
            await self._claim(stage, partition)

    async def _claim(self, stage: Stage, partition: int) -> None:
        lease = await self._mesh.claim(stage.id, partition, self._name, self._lease_s)
        if lease is None:
            return
        memory = Memory()
        try:
            task = await self._task_of(stage, lease, memory)
        except HaltedError as reason:
            self._halt(lease, reason)
            await self._mesh.release(lease)
        else:
            self._owned[stage.id, partition] = Owned(stage, lease, memory, task)

    async def _restore(self, owned: Owned) -> None:
        owned.sound = False
        self.counts.restored += 1
        try:
            owned.task = await self._task_of(owned.stage, owned.lease, owned.memory)
        except HaltedError as reason:
            self._halt(owned.lease, reason)
            await self._release(owned)
        else:
            owned.sound = True
            self._wake.set()

    async def _task_of(self, stage: Stage, lease: Lease, memory: Memory) -> PartitionTask:
        restored = await self._mesh.restore(lease, inputs_of(stage, lease.partition))
        try:
            task = PartitionTask(stage, lease.partition, restored, memory)
            await task.agent.initialize()
        except Exception as error:
            msg = (
                f"{stage.id}/{lease.partition} cannot begin with what it had stored: {error}. "
                f"Bring back the release that wrote it, or give the stage a new id"
            )
            raise HaltedError(msg) from error
        return task

    def _halt(self, lease: Lease, reason: HaltedError) -> None:
        log.error("%s", reason)
        self._halted[lease.stage, lease.partition] = str(reason)

    async def _hand_over(self, owned: Owned) -> None:
        await self._commit([owned] if owned.sound and owned.task.moved else [])
        await self._release(owned)

    async def _release(self, owned: Owned) -> None:
        self._drop(owned)
        self._asker.cancel(owned.place)
        await owned.task.agent.shutdown()
        await self._mesh.release(owned.lease)

    def _holds(self, owned: Owned) -> bool:
        return self._owned.get(owned.place) is owned

    def _fenced(self, owned: Owned, reason: FencedError) -> None:
        if self._holds(owned):
            log.warning("%s", reason)
            self.counts.fenced += 1
            self._drop(owned)
            self._asker.cancel(owned.place)

    def _drop(self, owned: Owned) -> None:
        if self._holds(owned):
            del self._owned[owned.place]
        for asking in owned.asking:
            asking.cancel()

    async def _give_back(self) -> None:
        """The last commits and the leases; what fails here is what a crash would leave, and is found the same way."""
        try:
            await self._commit([owned for owned in self._owned.values() if owned.sound and owned.task.moved])
            for owned in list(self._owned.values()):
                await self._release(owned)
            await self._mesh.leave(self._member.entry)
        except (MeshUnavailableError, LostWritesError) as error:
            log.info("the leases of %s are left to expire: %s", self._name, error)  # the outage itself has been told
        finally:
            for owned in list(self._owned.values()):
                self._drop(owned)
            if self._stopping:
                self._asker.cancel_all_but(())
            self._tend_at_s = 0.0


def _is_due(owned: Owned, now_s: float) -> bool:
    task = owned.task
    late = now_s - owned.committed_at_s >= QUIET_COMMIT_S
    return owned.sound and (task.has_news or (task.moved and late))
