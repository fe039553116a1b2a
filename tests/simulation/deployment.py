"""A simulated deployment: one mesh server, processes that work on it, and a nemesis that a seed decides everything about.

A run has three parts of virtual time: faults, calm (nothing fails any more), and the end, when nothing waits any longer or
patience is over.  What is asserted about a run is in ``tests.simulation.oracle``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from pipeline.engine.asking import Handlers
from pipeline.engine.mesh import FencedError, Mesh, MeshUnavailableError
from pipeline.engine.record import Output, output_for
from pipeline.engine.retention import Janitor
from pipeline.engine.sink_runner import SinkRunner
from pipeline.engine.tenure import WorkerCounts
from pipeline.engine.ticker import Ticker
from pipeline.engine.worker import Worker
from tests.simulation.plan import Plan
from tests.simulation.remembering import RememberingMesh
from tests.simulation.virtual_loop import KilledError, Process, virtual_loop
from tests.simulation.wire import Weather, Wire
from topology.errors import BadInputError, RetryableError
from topology.event import Event, Payload
from topology.graph import Topology

EPOCH_S = 1_800_000_000.0
LEASE_S = 1.0
RESTART_MAX_S = 1.5
SETTLE_MAX_S = 90.0
_AGAIN_S = 0.1
_SINK = "recorded"
_EXPLAINED = (RetryableError, FencedError, BadInputError, KilledError)
"""What a task of a process may end with: an outage, another owner, a question that has no answer, its death."""


class Member(Process):
    """A process of the deployment.

    Args:
        name: of the slot, which its successor takes over.
        own_name: by which the mesh knows it.
        begin_again: starts its successor.
    """

    def __init__(self, name: str, own_name: str, begin_again: Callable[[], None]) -> None:
        super().__init__(name)
        self.own_name = own_name
        self.begin_again = begin_again


class Story(ABC):
    """What happens in the world around a deployment.

    Attributes:
        sunk: the streams a sink keeps.
        lasts_s: how long faults go on.
    """

    topology: Topology
    sunk: tuple[str, ...]
    lasts_s: float

    @abstractmethod
    def sources(self, run: Run) -> Sequence[Callable[[Source], Any]]:
        """Coroutine functions, one per source process; each is run again, from its beginning, when its process died."""

    @abstractmethod
    def handlers(self, run: Run, member: Member) -> Handlers:
        """Who answers the questions of one worker process."""

    @abstractmethod
    def is_over(self, run: Run) -> bool:
        """Whether all that was to happen has happened."""


@dataclass
class Source:
    """A source process's way to the mesh.

    Attributes:
        done: what the source keeps on its disk: survives its death.
    """

    run: Run
    process: Process
    mesh: Mesh
    done: dict[str, int]

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Returns when it is durable; tries again until it is."""
        while True:
            try:
                await self.mesh.publish(outputs)
                return
            except MeshUnavailableError:
                await asyncio.sleep(_AGAIN_S)

    async def publish_events(self, stream: str, events: Sequence[Event[Payload]]) -> None:
        """As ``publish``."""
        await self.publish([output_for(self.run.topology.streams[stream], event) for event in events])


@dataclass
class _Sink:
    """What a store keeps: by event id, in the order of first arrival."""

    run: Run
    kept: dict[str, Event[Payload]]

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        run = self.run
        await asyncio.sleep(0.005 * run.dice.random())
        away = not run.weather.is_calm and run.dice.random() < run.sink_fails
        if away:
            run.weather.note("sink away")
        if not away or run.dice.random() < 0.5:
            for event in events:
                if str(event.id) in self.kept:
                    run.weather.happened["sunk again"] += 1
                self.kept.setdefault(str(event.id), event)
        if away:
            raise RetryableError("the store is away")

    async def close(self) -> None:
        """Nothing to give back."""


@dataclass
class Run:
    """One run of one seed."""

    seed: int
    story: Story
    mesh_class: type[RememberingMesh] = RememberingMesh
    wire_class: type[Wire] = Wire
    problems: list[str] = field(default_factory=list)
    kept: dict[str, Event[Payload]] = field(default_factory=dict)
    settled: bool = False
    fenced: int = 0

    def __post_init__(self) -> None:
        self.dice = Random(f"{self.seed}/world")
        self.plan = Plan.of(Random(f"{self.seed}/plan"), self.story.lasts_s)
        self.loop = virtual_loop(Random(f"{self.seed}/loop"))
        self.weather = Weather(Random(f"{self.seed}/weather"), self.plan.likely)
        self.sink_fails = self.dice.choice((0.0, 0.0, 0.2))
        self.clock_off_s = 0.0
        self.mesh = self.mesh_class(lambda: int(self.now_s * 1000))
        self.began_s = self.loop.time()
        self.ill_until_s = self.began_s + self.story.lasts_s
        self._processes: dict[str, Member] = {}
        self._buried: list[Member] = []
        self._counts: list[WorkerCounts] = []
        self._workers: dict[str, Worker] = {}
        self._done: dict[str, dict[str, int]] = {}
        self._born = 0

    @property
    def topology(self) -> Topology:
        """What is deployed."""
        return self.story.topology

    @property
    def now_s(self) -> float:
        """The server's clock, in seconds since the epoch."""
        return EPOCH_S + self.loop.time() + self.clock_off_s

    def play(self) -> Run:
        """Let it all happen."""
        try:
            self.loop.run_until_complete(self._play())
        finally:
            self.loop.close()
        self.fenced = sum(counts.fenced for counts in self._counts)
        self.problems += self.mesh.problems
        self.problems += [f"a callback failed: {failure}" for failure in self.loop.failures]
        for process in [*self._processes.values(), *self._buried]:
            for error in process.errors():
                if not isinstance(error, _EXPLAINED):
                    self.problems.append(f"{process.name} failed: {error!r}")
        return self

    def waiting(self) -> int:
        """How many records wait for somebody."""
        consumers = [
            (stage.id, partition, (stream.name, partition))
            for stage in self.topology.tasks
            for stream in stage.inputs
            for partition in range(stage.partitions)
        ]
        consumers += [
            (f"~sink-{_SINK}", 0, (name, partition))
            for name in self.story.sunk
            for partition in range(self.topology.streams[name].partitions)
        ]
        asking = self.mesh.lags(consumers)
        try:
            asking.send(None)
        except StopIteration as done:
            return sum(lag.waiting for lag in done.value)
        raise AssertionError("the memory mesh waits")

    # --- the course of a run -------------------------------------------------------------------------------------

    async def _play(self) -> None:
        for number, source in enumerate(self.story.sources(self)):
            self._start_source(f"source-{number}", source)
        for number in range(self.plan.workers):
            self._start_worker(f"worker-{number}")
        for at_s, fault in self.plan.faults:
            await asyncio.sleep(max(0.0, self.began_s + at_s - self.loop.time()))
            self._befall(fault)
        await asyncio.sleep(max(0.0, self.ill_until_s - self.loop.time()))
        self.weather.is_calm = True
        until_s = self.loop.time() + SETTLE_MAX_S
        while self.loop.time() < until_s and not self.settled:
            await asyncio.sleep(0.5)
            self.settled = self.story.is_over(self) and not self.waiting()
        for worker in self._workers.values():
            worker.stop()
        await asyncio.sleep(2 * LEASE_S)
        for process in list(self._processes.values()):
            process.kill()
        await asyncio.sleep(0.1)

    def _start_source(self, name: str, source: Callable[[Source], Any]) -> None:
        def begin() -> None:
            process = self._new_process(name, name, begin)
            mesh = self._wire(process)
            process.start(source(Source(self, process, mesh, self._done.setdefault(name, {}))))

        begin()

    def _start_worker(self, name: str) -> None:
        def begin() -> None:
            # An operator's restart keeps the name; an orchestrator's gives another one.
            self._born += 1
            own = name if self.dice.random() < 0.5 else f"{name}-{self._born}"
            process = self._new_process(name, own, begin)
            mesh = self._wire(process)
            worker = Worker(mesh, self.topology, self.story.handlers(self, process), name=own, lease_s=LEASE_S)
            self._workers[name] = worker
            self._counts.append(worker.counts)
            sink = SinkRunner(
                mesh,
                _SINK,
                _Sink(self, self.kept),
                [self.topology.streams[stream] for stream in self.story.sunk],
                name=own,
                lease_s=LEASE_S,
            )
            janitor = Janitor(mesh, self.topology, consumers=self._sunk(), every_s=2.5, clock_ms=self._clock_ms)
            process.start(self._again_and_again(process, worker.run))
            process.start(self._again_and_again(process, sink.run))
            process.start(self._again_and_again(process, janitor.run))
            ticker = Ticker(mesh, self.topology, name=own, lease_s=LEASE_S, clock_us=self._clock_us)
            process.start(self._again_and_again(process, lambda: self._tick(ticker)))

        begin()

    def _sunk(self) -> list[tuple[str, list[Any]]]:
        return [(f"~sink-{_SINK}", [self.topology.streams[stream] for stream in self.story.sunk])]

    def _clock_ms(self) -> int:
        return int(self.now_s * 1000)

    def _clock_us(self) -> int:
        return int(self.now_s * 1_000_000)

    def _new_process(self, name: str, own_name: str, begin: Callable[[], None]) -> Member:
        process = Member(name, own_name, begin)
        if name in self._processes:
            self._buried.append(self._processes[name])
        self._processes[name] = process
        return process

    def _wire(self, process: Process) -> Mesh:
        return cast("Mesh", self.wire_class(self.mesh, process, self.weather, self._crash))

    async def _again_and_again(self, process: Process, run: Callable[[], Any]) -> None:
        """As ``Routine`` does; what is raised that no outage explains is a problem."""
        while True:
            try:
                await run()
                return
            except MeshUnavailableError:
                await asyncio.sleep(_AGAIN_S * (0.5 + self.dice.random()))

    async def _tick(self, ticker: Ticker) -> None:
        """Until the story is over; as long as there are ticks, there is something to do."""
        ticking = asyncio.create_task(ticker.run())
        try:
            while not ticking.done() and not self.story.is_over(self):
                await asyncio.wait({ticking}, timeout=0.5)
            if ticking.done():
                await ticking
        finally:
            ticking.cancel()

    # --- faults --------------------------------------------------------------------------------------------------

    def _befall(self, fault: str) -> None:
        dice = self.dice
        if fault == "stall":
            self._stall(self._some("worker"), LEASE_S * (0.2 + 2.5 * dice.random()))
        elif fault == "kill":
            self._crash(self._some("worker"), "kill")
        elif fault == "source restart":
            self._crash(self._some("source"), fault)
        elif fault == "stop":
            self._stop(self._some("worker"))
        elif fault == "outage":
            self._away_for(0.05 + 2.5 * LEASE_S * dice.random() ** 2)
        elif fault == "cut off":
            self._cut_off(self._some("worker"), 0.05 + 2.5 * LEASE_S * dice.random())
        else:
            jump_s = 5 * LEASE_S * dice.random() ** 2
            self.clock_off_s += jump_s if fault == "clock forward" else -jump_s
            self.weather.note(fault, f"{jump_s:.3f} s")

    def _some(self, kind: str) -> Member | None:
        live = [
            process
            for name, process in self._processes.items()
            if name.startswith(kind) and not process.is_dead and not process.is_stalled
        ]
        return self.dice.choice(live) if live else None

    def _stall(self, process: Member | None, for_s: float) -> None:
        if process is not None:
            self.weather.note("stall", f"{process.name} {for_s:.3f} s")
            process.is_stalled = True
            self.loop.call_later(for_s, self.loop.resume, process)

    def _crash(self, process: Process | None, why: str = "crash") -> None:
        if process is None or process.is_dead:
            return
        self.weather.note(why, process.name)
        self.loop.resume(process)
        process.kill()
        self._restart_later(process)

    def _stop(self, process: Member | None) -> None:
        if process is not None:
            self.weather.note("stop", process.name)
            self._workers[process.name].stop()
            # SIGKILL follows SIGTERM, as in Kubernetes.
            self.loop.call_later(LEASE_S * self.dice.random(), self._crash, process, "stopped")

    def _restart_later(self, process: Process) -> None:
        pause_s = RESTART_MAX_S * self.dice.random()
        self.loop.call_later(pause_s, self._processes[process.name].begin_again, context=Context())

    def _away_for(self, for_s: float) -> None:
        self.weather.note("outage", f"{for_s:.3f} s")
        self.weather.is_away = True
        self.loop.call_later(for_s, setattr, self.weather, "is_away", False)

    def _cut_off(self, process: Member | None, for_s: float) -> None:
        if process is not None:
            self.weather.note("cut off", f"{process.name} {for_s:.3f} s")
            self.weather.cut_off.add(process.name)
            self.loop.call_later(for_s, self.weather.cut_off.discard, process.name)
