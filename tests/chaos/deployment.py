"""A deployment to be tortured: one server, some workers behind proxies, one source, and the judgement at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from pipeline.engine.inputs import inputs_of
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Place
from pipeline.engine.redis_mesh import RedisMesh
from tests.chaos.loop_under_test import topology
from tests.chaos.oracle import Log, judge
from tests.chaos.proxy import Proxy
from tests.chaos.report import Report
from tests.chaos.source import Source
from tests.chaos.valkey import Valkey
from tests.chaos.worker_process import LOST_WRITES
from tests.chaos.workers import WorkerProcess
from tests.polling import eventually
from topology.event import Event

SETTLED_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.2


class Deployment:
    """See the module.

    Attributes:
        server: the one that counts now; a failover changes it.
        losing: the fault that may make the server lose what it acknowledged; empty while it may not.
        consumers: further ones beside the stages, for the lag.
    """

    def __init__(self, report: Report, chance: random.Random, folder: Path, server: Valkey) -> None:
        self.report = report
        self.chance = chance
        self.folder = folder
        self.server = server
        self.mesh = RedisMesh.connect(f"redis://127.0.0.1:{server.port}", "c")
        self.losing = ""
        self.workers: list[WorkerProcess] = []
        self.consumers: list[tuple[str, int, Place]] = []
        self.database_url = ""
        self.source_proxy = Proxy(lambda: self.server.port)
        self.source: Source
        self._may_be_gone: set[UUID] = set()
        self._started = 0
        self._looking: asyncio.Task[None] | None = None

    async def start(self, workers: int) -> None:
        """Start workers and source."""
        await self.source_proxy.start()
        self.source = Source(
            lambda: RedisMesh.connect(f"redis://127.0.0.1:{self.source_proxy.port}", "c"),
            self.chance,
            f"{self.folder.name} {self.report.seed}",
            on_lost_writes=lambda error: self._report_lost_writes("the source", str(error)),
        )
        for _ in range(workers):
            await self.add_worker()
        self.source.start()
        self._looking = asyncio.create_task(self._look())
        await self.working()

    async def add_worker(self, *, url: str = "", within: Sequence[str] = ()) -> WorkerProcess:
        """One more worker, behind a proxy of its own unless it has a network of its own."""
        self._started += 1
        proxy = None
        if not url:
            proxy = Proxy(lambda: self.server.port)
            await proxy.start()
            url = f"redis://127.0.0.1:{proxy.port}"
        name = f"w{self._started}"
        worker = WorkerProcess(name, proxy, self.folder / f"{name}.log")
        await worker.start(url, database_url=self.database_url, within=within)
        self.workers.append(worker)
        return worker

    async def remove(self, worker: WorkerProcess, *, kill: bool = False) -> None:
        """End a worker for good."""
        self.workers.remove(worker)
        if kill:
            await worker.kill()
        else:
            await worker.stop()
        await self._bury(worker, await worker.ended())

    def any_worker(self) -> WorkerProcess:
        """One that has work to lose."""
        owners = [worker for worker in self.workers if worker.alive and worker.said.get("owned")]
        return self.chance.choice(owners or self.workers)

    async def working(self, within_s: float = 30) -> None:
        """Wait until every partition has an owner and there are new commits."""
        began_s = time.monotonic()
        partitions = sum(stage.partitions for stage in topology().stages)
        await eventually(lambda: self._owned() == partitions, saying="all is owned", within_s=within_s, seen=self._seen)
        before = self._commits()
        await eventually(
            lambda: self._commits() > before, saying="there are commits", within_s=within_s, seen=self._seen
        )
        took_s = time.monotonic() - began_s
        if took_s > 2:
            self.report.say(f"it took {took_s:.1f} s until everything had an owner and there were commits")

    async def committing(self, workers: Sequence[WorkerProcess], within_s: float = 30) -> None:
        """Wait until each of these workers has made a commit from now on."""
        before = {worker: worker.commits for worker in workers}
        await eventually(
            lambda: all(worker.commits > commits for worker, commits in before.items()),
            saying="each of them commits",
            within_s=within_s,
            seen=self._seen,
        )

    def may_lose(self, fault: str, since_s: float) -> None:
        """From this moment the server may lack what it acknowledged since then (monotonic seconds)."""
        self.losing = fault
        self._may_be_gone |= {event for event, at_s in self.source.acked.items() if at_s >= since_s}

    async def lost_writes_reported(self, within_s: float = 20) -> None:
        """Wait until every worker that had committed said that its server lost writes, and was replaced."""
        fault = self.losing
        expected = [worker for worker in self.workers if worker.commits]
        await eventually(
            lambda: not any(worker.alive for worker in expected),
            saying=f"{fault}: {len(expected)} workers say that the server lost writes",
            within_s=within_s,
            seen=self._seen,
        )

    async def settle(self) -> None:
        """No more faults: the lag must return to 0, and what is there must be what the oracle says."""
        began_s = time.monotonic()
        await self.source.finish()
        finished_s = time.monotonic()
        await eventually(self._idle, saying="the lag returns to 0", within_s=SETTLED_WITHIN_S, seen=self._seen)
        caught_up_s = time.monotonic()
        log = await self.log()
        present = {event.id for signals in log["signals"] for event in signals}
        gone = self.source.acked.keys() - present
        allowed = gone & self._may_be_gone
        if allowed:
            self.report.lost_writes[self.losing] += len(allowed)
        if gone - allowed:
            self.report.lost += len(gone - allowed)
            self.report.broken(f"{len(gone - allowed)} acknowledged events are not on the stream")
        self._judge_door(log)
        judgement = judge(log)
        self.report.lost += judgement.lost
        self.report.double += judgement.double
        self.report.order_violations += judgement.order_violations
        for what in judgement.evidence:
            self.report.broken(what)
        self.report.events += len(present)
        self.report.faults["duplicate posted"] += self.source.posted_again
        self.report.say(
            f"settled: {len(present)} signals, {sum(map(len, log['incidents']))} incidents, {len(allowed)} lost by the "
            f"server; the source took {finished_s - began_s:.1f} s to end, the lag {caught_up_s - finished_s:.1f} s"
        )

    async def log(self) -> Log:
        """Everything that is on the streams."""
        return {
            **{stream.name: await self._events(stream.name, stream.partitions) for stream in OPERATION_STREAMS},
            **{
                stream.name: await self._events(stream.name, stream.partitions)
                for stream in topology().streams.values()
            },
        }

    async def stop(self) -> None:
        """End everything."""
        if self._looking is not None:
            self._looking.cancel()
        await self.source.stop()
        for worker in list(self.workers):
            await self.remove(worker, kill=self.chance.random() < 0.5)
        await self.source_proxy.stop()
        await self.mesh.close()
        self.server.stop()

    async def moved_to(self, server: Valkey) -> None:
        """A failover: everybody is sent to another server from now on."""
        old, self.server = self.server, server
        await self.mesh.close()
        self.mesh = RedisMesh.connect(f"redis://127.0.0.1:{server.port}", "c")
        old.stop()

    async def _look(self) -> None:
        """Notice workers that ended by themselves, and start others instead."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.source.raise_if_failed()
            for worker in [worker for worker in self.workers if not worker.alive]:
                self.workers.remove(worker)
                code = await worker.ended()
                if code == LOST_WRITES:
                    self._report_lost_writes(worker.name, worker.lost_writes)
                else:
                    self.report.broken(f"{worker.name} ended by itself with code {code}: {worker.last_words()}")
                await self._bury(worker, code)
                await self.add_worker()

    def _report_lost_writes(self, who: str, what: str) -> None:
        if self.losing:
            self.report.reported[self.losing] += 1
            self.report.say(f"{who} says: {what[:140]}")
        else:
            self.report.broken(f"{who} says, though the server may not have lost anything: {what}")

    async def _bury(self, worker: WorkerProcess, code: int) -> None:
        if not worker.end_is_expected(code):
            self.report.broken(f"{worker.name} ended with code {code}: {worker.last_words()}")
        if worker.said.get("halted"):
            self.report.broken(f"{worker.name} halted: {worker.said['halted']}")
        self.report.fenced += worker.fenced
        if worker.proxy is not None:
            await worker.proxy.stop()

    async def _idle(self) -> bool:
        consumers = [
            (stage.id, partition, place)
            for stage in topology().stages
            for partition in range(stage.partitions)
            for place in inputs_of(stage, partition)
        ]
        with suppress(MeshUnavailableError):
            return not any(lag.waiting for lag in await self.mesh.lags([*consumers, *self.consumers]))
        return False

    async def _events(self, stream: str, partitions: int) -> list[list[Event[Any]]]:
        found: list[list[Event[Any]]] = []
        for partition in range(partitions):
            position: Offset = BEGINNING
            found.append([])
            while records := await self.mesh.read({(stream, partition): position}, count=10_000, wait_s=0):
                position = records[-1].offset
                found[-1] += [record.event for record in records]
        return found

    def _judge_door(self, log: Log) -> None:
        for partition, signals in enumerate(log["signals"]):
            repeated = len(signals) - len({event.id for event in signals})
            if repeated:
                self.report.double += repeated
                self.report.broken(f"signals/{partition} holds {repeated} events twice")
            numbers = [self.source.numbers[event.id] for event in signals]
            if numbers != sorted(numbers) and not self.losing:
                self.report.order_violations += 1
                self.report.broken(f"signals/{partition} is not in the order of publishing")

    def _owned(self) -> int:
        return sum(int(worker.said.get("owned", 0)) for worker in self.workers)

    def _commits(self) -> int:
        return sum(worker.commits for worker in self.workers)

    def _seen(self) -> object:
        return {worker.name: worker.said for worker in self.workers}


@asynccontextmanager
async def deployed(
    report: Report,
    chance: random.Random,
    folder: Path,
    *,
    fsync: str = "everysec",
    workers: int = 3,
    bind: str = "",
    database_url: str = "",
    data: Path | None = None,
) -> AsyncIterator[Deployment]:
    """A deployment that works; ended, not judged, at the end of the block.

    Args:
        folder: is there already, and empty.
        data: where the server keeps its data; by default in the folder.
    """
    server = Valkey(data or folder / "server", fsync=fsync, bind=bind)
    await server.start()
    deployment = Deployment(report, chance, folder, server)
    deployment.database_url = database_url
    began_s = time.monotonic()
    try:
        await deployment.start(workers)
        report.say(f"{folder.name}: {workers} workers began in {time.monotonic() - began_s:.1f} s")
        yield deployment
    finally:
        await deployment.stop()
