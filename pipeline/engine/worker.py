"""A worker: owns partitions of stages, reads for all of them at once, and commits what they conclude.

One loop does it all, so that nothing a task holds can change while a commit is on its way:
tend the leases -> read -> let every task step -> commit -> again.  Answers of the world come in from tasks of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import orjson

from pipeline.engine.asking import Handlers, ask
from pipeline.engine.attempt import OpenQuestion
from pipeline.engine.mesh import FencedError, Lease, LostWritesError, Mesh, MeshUnavailableError
from pipeline.engine.record import Offset, Place, Record
from pipeline.engine.task import HaltedError, Memory, MustRestoreError, PartitionTask, failed, inputs_of
from topology.graph import Stage, Topology

log = logging.getLogger(__name__)

RECORDS_PER_READ = 500
WAIT_S = 1.0
QUIET_COMMIT_S = 2.0
"""How long a commit may wait that only says how far the task has come."""


@dataclass(slots=True)
class Owned:
    """A stage's partition while this worker owns it."""

    stage: Stage
    lease: Lease
    memory: Memory
    task: PartitionTask
    asking: set[asyncio.Task[None]] = field(default_factory=set)
    committed_at_s: float = 0.0


@dataclass(slots=True)
class WorkerCounts:
    """What a worker has done since it started."""

    records: int = 0
    commits: int = 0
    outputs: int = 0
    fenced: int = 0
    restored: int = 0


class Worker:
    """Runs stages of a topology on a mesh until it is stopped.

    Several workers share the partitions: each claims those that rendezvous hashing gives it among the live ones.

    Args:
        name: unique among live workers.
        lease_s: how long the partitions of a dead worker stay orphaned.
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
    ) -> None:
        wanted = None if stages is None else set(stages)
        self._mesh = mesh
        self._stages = [stage for stage in topology.stages if wanted is None or stage.id in wanted]
        self._handlers = handlers
        self._name = name
        self._lease_s = lease_s
        self._owned: dict[tuple[str, int], Owned] = {}
        self._halted: dict[tuple[str, int], str] = {}
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
        """Partitions whose stage halted at a poisoned event, and why."""
        return dict(self._halted)

    def stop(self) -> None:
        """Ask :meth:`run` to finish what it has in hand, give its partitions back, and return."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            MeshUnavailableError: the mesh is away; run again later, nothing is lost.
            LostWritesError: the mesh's server lost writes; somebody must decide.
        """
        self._stopping = False
        reading: asyncio.Task[list[Record]] | None = None
        read_from: dict[Place, Offset] = {}
        try:
            while not self._stopping:
                if await self._tend_leases() and reading is not None:
                    await _cancelled(reading)
                    reading = None
                if reading is None:
                    read_from = self._places()
                    reading = asyncio.create_task(
                        self._mesh.read(read_from, count=RECORDS_PER_READ, wait_s=WAIT_S) if read_from else _idle()
                    )
                records = await self._next(reading)
                if records is not None:
                    reading = None
                    self._deliver(records, read_from)
                await self._step()
        finally:
            if reading is not None:
                await _cancelled(reading)
            await self._give_back()

    async def _next(self, reading: asyncio.Task[list[Record]]) -> list[Record] | None:
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({reading, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        self._wake.clear()
        return reading.result() if reading.done() else None

    def _places(self) -> dict[Place, Offset]:
        places: dict[Place, Offset] = {}
        for owned in self._owned.values():
            if owned.task.room:
                for place, offset in owned.task.positions.items():
                    places[place] = min(places.get(place, offset), offset)
        return places

    def _deliver(self, records: list[Record], read_from: dict[Place, Offset]) -> None:
        self.counts.records += len(records)
        by_place: dict[Place, list[Record]] = {}
        for record in records:
            by_place.setdefault((record.stream, record.partition), []).append(record)
        for owned in self._owned.values():
            mine: list[Record] = []
            for place, position in owned.task.positions.items():
                # A task restored while the read was on its way must not skip what lies before it.
                if place in by_place and position >= read_from[place]:
                    mine += by_place[place]
            if mine and owned.task.room:
                owned.task.offer(mine)

    async def _step(self) -> None:
        now_s = asyncio.get_running_loop().time()
        stepped = [owned for owned in list(self._owned.values()) if await self._step_one(owned)]
        await self._commit([owned for owned in stepped if self._is_due(owned, now_s)])

    def _is_due(self, owned: Owned, now_s: float) -> bool:
        task = owned.task
        return task.has_news or (task.moved and now_s - owned.committed_at_s >= QUIET_COMMIT_S)

    async def _step_one(self, owned: Owned) -> bool:
        try:
            owned.task.step()
        except MustRestoreError as reason:
            log.warning("%s; the partition is restored from its last commit", reason)
            self.counts.restored += 1
            await self._restore(owned)
            self._wake.set()
            return False
        except HaltedError as reason:
            log.error("%s", reason)  # noqa: TRY400 - the reason is in the message; the traceback is the task's own
            self._halted[owned.stage.id, owned.task.partition] = str(reason)
            await self._release(owned)
            return False
        finally:
            for question in owned.task.take_questions():
                asking = asyncio.create_task(self._ask(owned, question))
                owned.asking.add(asking)
                asking.add_done_callback(owned.asking.discard)
        return True

    async def _commit(self, due: Sequence[Owned]) -> None:
        if not due:
            return
        commits = [(owned.lease, owned.task.take_commit()) for owned in due]
        outcomes = await self._mesh.commit(commits)
        now_s = asyncio.get_running_loop().time()
        for owned, (_, commit), fenced in zip(due, commits, outcomes, strict=True):
            owned.committed_at_s = now_s
            if fenced is None:
                self.counts.commits += 1
                self.counts.outputs += len(commit.outputs)
            else:
                log.warning("%s", fenced)
                self.counts.fenced += 1
                self._drop(owned)

    async def _ask(self, owned: Owned, question: OpenQuestion) -> None:
        try:
            answer = await ask(self._handlers, question.question, owned.stage.spec.retry)
            await self._record(owned, question.key, orjson.dumps(answer))
        except FencedError as fenced:
            log.warning("%s", fenced)
            self.counts.fenced += 1
            self._drop(owned)
        except Exception as error:  # noqa: BLE001 - the task's boundary: the event becomes a dead letter with this reason
            owned.task.answer(question, failed(question, error))
        else:
            owned.task.answer(question, answer)
        self._wake.set()

    async def _record(self, owned: Owned, key: str, answer: bytes) -> None:
        while True:
            try:
                return await self._mesh.record_answer(owned.lease, key, answer)
            except MeshUnavailableError:
                await asyncio.sleep(WAIT_S / 4)  # an answer that was given must not be asked for again

    async def _tend_leases(self) -> bool:
        """Answers whether the set of partitions changed."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._tend_at_s:
            return False
        self._tend_at_s = now_s + self._lease_s / 4
        before = set(self._owned)
        workers = await self._mesh.join(self._name, self._lease_s)
        for lease in await self._mesh.renew([owned.lease for owned in self._owned.values()], self._lease_s):
            self.counts.fenced += 1
            self._drop(self._owned[lease.stage, lease.partition])
        for stage in self._stages:
            for partition in range(stage.partitions):
                mine = _owner(stage.id, partition, workers) == self._name
                owned = self._owned.get((stage.id, partition))
                if owned is not None and not mine:
                    await self._commit([owned] if owned.task.moved else [])
                    await self._release(owned)
                elif owned is None and mine and (stage.id, partition) not in self._halted:
                    await self._claim(stage, partition)
        return before != set(self._owned)

    async def _claim(self, stage: Stage, partition: int) -> None:
        lease = await self._mesh.claim(stage.id, partition, self._name, self._lease_s)
        if lease is None:
            return
        memory = Memory()
        restored = await self._mesh.restore(lease, inputs_of(stage, partition))
        owned = Owned(stage, lease, memory, PartitionTask(stage, partition, restored, memory))
        await owned.task.agent.initialize()
        self._owned[stage.id, partition] = owned

    async def _restore(self, owned: Owned) -> None:
        partition = owned.task.partition
        restored = await self._mesh.restore(owned.lease, inputs_of(owned.stage, partition))
        owned.task = PartitionTask(owned.stage, partition, restored, owned.memory)
        await owned.task.agent.initialize()

    async def _release(self, owned: Owned) -> None:
        self._drop(owned)
        await owned.task.agent.shutdown()
        await self._mesh.release(owned.lease)

    def _drop(self, owned: Owned) -> None:
        place = owned.stage.id, owned.task.partition
        if self._owned.get(place) is owned:
            del self._owned[place]
        for asking in owned.asking:
            asking.cancel()

    async def _give_back(self) -> None:
        """The last commits and the leases; what fails here is what a crash would leave, and is found the same way."""
        try:
            await self._commit([owned for owned in self._owned.values() if owned.task.moved])
            for owned in list(self._owned.values()):
                await self._release(owned)
            await self._mesh.leave(self._name)
        except (MeshUnavailableError, LostWritesError) as error:
            log.warning("the leases of %s are left to expire: %s", self._name, error)
        finally:
            for owned in list(self._owned.values()):
                self._drop(owned)
            self._tend_at_s = 0.0


def _owner(stage: str, partition: int, workers: Sequence[str]) -> str:
    """Rendezvous hashing: who comes or goes moves only its own share."""

    def weight(worker: str) -> bytes:
        return blake2b(f"{stage}/{partition}/{worker}".encode(), digest_size=8).digest()

    return max(workers, key=weight)


async def _idle() -> list[Record]:
    await asyncio.sleep(WAIT_S)
    return []


async def _cancelled(task: asyncio.Task[list[Record]]) -> None:
    task.cancel()
    await asyncio.wait({task})
