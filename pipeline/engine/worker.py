"""A worker: owns partitions of stages, reads for all of them at once, and commits what they conclude.

One loop does it all, so that nothing a task holds can change while a commit is on its way:
tend the leases -> read -> let every task step -> commit -> again.  Answers of the world come in from tasks of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from pipeline.engine.asking import Asker, Handlers, failed
from pipeline.engine.attempt import OpenQuestion
from pipeline.engine.garbage import look_for_cycles_rarely
from pipeline.engine.inputs import partitions_of
from pipeline.engine.mesh import FencedError, LostWritesError, Mesh, MeshUnavailableError
from pipeline.engine.owned import Owned
from pipeline.engine.pressure import Pressure
from pipeline.engine.reading import Reader
from pipeline.engine.tenure import Tenure, WorkerCounts
from pipeline.engine.turns import Turns
from pipeline.engine.verdict import HaltedError, Memory, MustRestoreError
from pipeline.engine.watchdog import STALLED_S, Stall, Watchdog
from topology.graph import Topology

log = logging.getLogger(__name__)

BUSY_S = 0.25
"""After working this long the worker commits and looks after its leases, however much there is still to do."""
QUIET_COMMIT_S = 2.0
"""How long a commit may wait that only says how far the task has come."""
_RECORD_AGAIN_S = 0.25


class Worker:
    """Runs stages of a topology on a mesh until it is stopped.

    Several workers share the partitions, evenly; see :mod:`pipeline.engine.tenure`.

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
        mine = [head for head in topology.tasks if wanted is None or any(each.id in wanted for each in head.chain)]
        self._asker = Asker(handlers, mine)
        self._turns = Turns(mesh, mine)
        self._pressure = Pressure(mesh, topology, mine)
        self._name = name
        self._watchdog = Watchdog(mesh, stalled_s=stalled_s)
        self._wake = asyncio.Event()
        self._stopping = False
        self._failure: Exception | None = None
        self.counts = WorkerCounts()
        self._tenure = Tenure(
            mesh,
            mine,
            self._asker,
            name,
            lease_s,
            commit=self._commit,
            changed=self._wake.set,
            counts=self.counts,
        )
        self._owned = self._tenure.holdings

    @property
    def owned(self) -> Sequence[tuple[str, int]]:
        """The (stage, partition) pairs held now, sorted; some of them may still be being restored."""
        return sorted(self._tenure.places)

    @property
    def restoring(self) -> dict[tuple[str, int], str]:
        """What is being restored, and how far that has come."""
        return {place: str(progress) for place, progress in self._tenure.restoring.items()}

    @property
    def halted(self) -> dict[tuple[str, int], str]:
        """Partitions whose stage halted, at a poisoned event or before it could begin, and why."""
        return dict(self._tenure.halted)

    @property
    def stalled(self) -> dict[tuple[str, int], str]:
        """Partitions that were restarted and have not moved since, and why."""
        return dict(self._watchdog.troubles)

    @property
    def troubles(self) -> list[str]:
        """What stands still, and why."""
        return [*self._watchdog.troubles.values(), *self._tenure.halted.values(), *self._pressure.troubles]

    def stop(self) -> None:
        """Ask :meth:`run` to finish what it has in hand, give its partitions back, and return."""
        self._stopping = True
        self._wake.set()
        self._asker.cancel_all_but(self._tenure.places)

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            MeshUnavailableError: the mesh is away; run again later, nothing is lost.
            LostWritesError: the mesh's server lost writes; somebody must decide.
            PartitionsChangedError: keys would miss their state; nothing was done.
        """
        self._stopping, self._failure = False, None
        look_for_cycles_rarely()
        reader = Reader(self._mesh, self._owned, self._wake)
        clock = asyncio.get_running_loop()
        await self._mesh.declare(self._partitions)
        try:
            while not self._stopping:
                if await self._tenure.tend():
                    # Who waits for others to read does not stand still by its own fault.
                    free = [owned for owned in self._owned.values() if not self._pressure.holds(owned.stage)]
                    for stall in await self._watchdog.look(free, clock.time()):
                        await self._deal_with(stall)
                await self._pressure.look(self._owned.values(), clock.time())
                until_s = min(self._tenure.due_s, self._pressure.look_at_s)
                self.counts.records += await reader.next(max(0.0, until_s - clock.time()))
                if reader.members_changed:
                    self._tenure.hurry()
                await self._step()
                if self._failure is not None:
                    raise self._failure
        except MeshUnavailableError:
            self._tenure.drop_all()  # not given back: run again, it goes on with them, and with what it has asked
            raise
        finally:
            await reader.cancel()
            await self._give_back()

    async def _step(self) -> None:
        clock = asyncio.get_running_loop()
        self._turns.read_at(clock.time())
        until_s = clock.time() + BUSY_S
        while ready := [owned for owned in self._owned.values() if self._may_step(owned)]:
            turns, had = self._turns.order(ready), 0
            while had < len(turns) and (not had or clock.time() <= until_s):
                owned, had = turns[had], had + 1
                if self._tenure.holds(owned):
                    await self._step_one(owned)
                if self._turns.look_is_due(owned, clock.time()):
                    await self._let_pass(owned, until_s)
            self._turns.break_off(turns[had:])
            if clock.time() > until_s:
                self._wake.set()
                break
        now_s = clock.time()
        await self._commit([owned for owned in self._owned.values() if _is_due(owned, now_s)])

    async def _let_pass(self, other: Owned, until_s: float) -> None:
        """What is more urgent than the task that had its turn goes first, and its commits go out at once."""
        clock = asyncio.get_running_loop()
        urgent, records = await self._turns.look(list(self._owned.values()), other, clock.time())
        self.counts.records += records
        for owned in urgent:
            if clock.time() > until_s:
                break
            if self._tenure.holds(owned) and self._may_step(owned):
                await self._step_one(owned)
        await self._commit([owned for owned in urgent if self._tenure.holds(owned) and _has_news(owned)])

    def _may_step(self, owned: Owned) -> bool:
        return owned.touched and owned.sound and owned.task.ready and not self._pressure.holds(owned.stage)

    async def _step_one(self, owned: Owned) -> None:
        try:
            owned.task.step(owned.stage.spec.records_per_step)
        except MustRestoreError as reason:
            log.info("%s; the partition is restored from its last commit", reason)
            self._tenure.restore(owned)
        except HaltedError as reason:
            await self._tenure.halt(owned, reason)
        except (Exception, asyncio.CancelledError) as error:  # nothing in a step can be cancelled: an agent raised it
            owned.sound = False
            log.exception("%s/%s is restarted: its step failed", *owned.place)
            self._watchdog.failed(owned, error, asyncio.get_running_loop().time())
        except BaseException:
            owned.sound = False
            raise
        if self._tenure.holds(owned):
            for question in owned.task.take_questions():
                asking = asyncio.create_task(self._ask(owned, question))
                owned.asking.add(asking)
                asking.add_done_callback(owned.asking.discard)

    async def _commit(self, due: Sequence[Owned]) -> None:
        if not due:
            return
        try:
            commits = [(owned.lease, owned.task.take_commit()) for owned in due]
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
                self._asker.forget(owned.place, commit.answered)
            else:
                self._tenure.fenced(owned.place, fenced)

    async def _ask(self, owned: Owned, question: OpenQuestion) -> None:
        retry = owned.stage.spec.retry
        try:
            answer = await self._asker.answer(owned.place, question, retry)
            written = orjson.dumps(answer)
        except Exception as error:  # noqa: BLE001 - the task's boundary: the event becomes a dead letter with this reason
            owned.task.answer(question, failed(question.question, error, retry))
            self._asker.forget(owned.place, [question.key])
        else:
            await self._take_answer(owned, question, answer, written)
        self._wake.set()

    async def _take_answer(self, owned: Owned, question: OpenQuestion, answer: Any, written: bytes) -> None:
        try:
            await self._record(owned, question.key, written)
        except FencedError as fenced:
            if self._tenure.holds(owned):
                self._tenure.fenced(owned.place, fenced)
        except Exception as error:  # noqa: BLE001 - the mesh's, not the event's: the worker ends with it
            self._failure = error
        else:
            owned.task.answer(question, answer)

    async def _record(self, owned: Owned, key: str, answer: bytes) -> None:
        while True:
            try:
                return await self._mesh.record_answer(owned.lease, key, answer)
            except MeshUnavailableError:
                await asyncio.sleep(_RECORD_AGAIN_S)  # an answer that was given must not be asked for again

    async def _deal_with(self, stall: Stall) -> None:
        owned = stall.owned
        if not self._tenure.holds(owned) or owned.place in self._tenure.restoring:
            return
        self.counts.stalled += 1
        self._asker.cancel(owned.place)  # whatever it waits for is asked for again
        for asking in owned.asking:
            asking.cancel()
        if stall.give_up:
            log.error("%s; it is left to another worker", stall.reason)
            await self._tenure.give_up(owned)
        else:
            log.error("%s; it is restored from its last commit", stall.reason)
            owned.memory = Memory()
            self._tenure.restore(owned)

    async def _give_back(self) -> None:
        """The last commits and the leases; what fails here is what a crash would leave, and is found the same way."""
        try:
            if self._stopping or self._tenure.places:
                await self._tenure.leave()
        except (MeshUnavailableError, LostWritesError) as error:
            log.info("the leases of %s are left to expire: %s", self._name, error)  # the outage itself has been told
        finally:
            self._tenure.drop_all()
            if self._stopping:
                self._asker.cancel_all_but(())


def _has_news(owned: Owned) -> bool:
    return owned.sound and owned.task.has_news


def _is_due(owned: Owned, now_s: float) -> bool:
    if not (owned.touched and owned.sound):
        return False
    task = owned.task
    late = now_s - owned.committed_at_s >= QUIET_COMMIT_S
    return task.has_news or (task.moved and late)
