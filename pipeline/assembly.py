"""Puts a deployment together: servers, mesh, knowledge, executors, and the services that run on them.

Used by ``aiops run`` (everything in one process) and ``aiops worker`` (some stages).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from agents.ports import ExecuteAction, RecallProblem
from pipeline.archive.archivist import Archivist
from pipeline.archive.folder import Archive
from pipeline.engine.asking import Handlers
from pipeline.engine.forwarder import Forwarder
from pipeline.engine.inputs import inputs_of
from pipeline.engine.mesh import LostWritesError, MeshUnavailableError, PartitionsChangedError
from pipeline.engine.oversight import Report, keep_reporting
from pipeline.engine.pressure import BackPressure
from pipeline.engine.publisher import Publisher
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.retention import Janitor
from pipeline.engine.server_check import UnfitServerError
from pipeline.engine.sink_runner import SinkRunner
from pipeline.engine.supervision import Routine
from pipeline.engine.ticker import Ticker
from pipeline.engine.worker import Worker
from pipeline.executors import Executors
from pipeline.executors.supervisor import ConfigurationExecutor, ProcessExecutor, SupervisorClient
from pipeline.executors.webhook import WebhookExecutor
from pipeline.knowledge.connections import Pool, open_pool
from pipeline.knowledge.migrate import migrate
from pipeline.knowledge.store import PostgresKnowledge
from pipeline.servers import ServerLease, ServerName, acquire
from pipeline.settings import Settings
from pipeline.sinks.postgres import KnowledgeSink
from pipeline.sources.journal import JOURNAL, Journal, JournalHeldError, Keeping
from pipeline.sources.journaled import JournaledPublisher
from pipeline.sources.source import Source
from tables.embedding import PROVIDER, embed
from topology.errors import TopologyError
from topology.graph import Topology

log = logging.getLogger(__name__)

INTAKE = "intake"
"""The stream sources publish to."""
KNOWN_STREAMS = ("incidents", "diagnoses", "plans", "actions", "outcomes", "lessons")
"""What the knowledge keeps."""

FATAL = (LostWritesError, PartitionsChangedError, UnfitServerError)
"""Nothing may go on after these: somebody must decide."""
REFUSED_WHEN_FULL = Keeping("refuse")
_MEET_WITHIN_S = 3.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are; ``lease`` holds those that are embedded."""

    redis_url: str
    database_url: str
    lease: ServerLease | None


@asynccontextmanager
async def servers(settings: Settings, progress: Progress) -> AsyncIterator[Addresses]:
    """The servers of the settings; those that are not set are started from wheels, and stop with their last user.

    Raises:
        ServersError: an embedded server cannot run here; the message says what to do.
    """
    need: set[ServerName] = set()
    if settings.redis_url is None:
        need.add("redis")
    if settings.database_url is None:
        need.add("postgres")
    lease = None
    if need:
        lease = await asyncio.to_thread(acquire, settings.state_dir, need=frozenset(need), progress=progress)
    try:
        redis_url = settings.redis_url.get_secret_value() if settings.redis_url else lease and lease.redis_url
        database_url = (
            settings.database_url.get_secret_value() if settings.database_url else lease and lease.database_url
        )
        yield Addresses(redis_url or "", database_url or "", lease)
    finally:
        if lease is not None:
            lease.close()


@dataclass
class Deployment:
    """A running deployment, or one worker of it.

    Attributes:
        publisher: puts events on the intake.
        sources: the same for sources, through the journal; None before there is a source.
        sinks: what feeds the stores.
        archivist: keeps what streams forget that are declared with ``archive: true``.
        routines: everything that runs, for the console and for health.
        failure: await it to be told of an error that must end everything.
    """

    settings: Settings
    topology: Topology
    mesh: RedisMesh
    pool: Pool
    knowledge: PostgresKnowledge
    executors: Executors
    worker: Worker
    publisher: Publisher | None
    archivist: Archivist
    sources: JournaledPublisher | None = None
    sinks: list[SinkRunner] = field(default_factory=list)
    routines: list[Routine] = field(default_factory=list)
    failure: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def start(self, *routines: Routine) -> None:
        """Start services; they stop, last first, when the deployment ends."""
        for routine in routines:
            await routine.start()
            self.routines.append(routine)

    def routine(self, name: str, run: Callable[[], Awaitable[None]], stop: Callable[[], None] | None = None) -> Routine:
        """A service of this deployment, which ends when the mesh's server lost writes or cannot carry a mesh."""
        return Routine(name, run, fatal=FATAL, on_fatal=self.give_up, stop=stop)

    async def add_source(self, name: str, source: Source, keeping: Keeping = REFUSED_WHEN_FULL) -> None:
        """Listen to a source from now on.

        Args:
            keeping: what becomes of its events while the mesh is away.

        Raises:
            TopologyError: there is no stream for sources.
        """
        if self.publisher is None:
            msg = f"topology {self.topology.name!r} has no stream {INTAKE!r}, to which sources publish; declare one, or use `aiops worker`"
            raise TopologyError(msg)
        if self.sources is None:
            self.sources = JournaledPublisher(self.publisher, await asyncio.to_thread(_journal, self.settings))
            await self.start(self.routine("journal", self.sources.run))
        publish = self.sources.of(name, keeping)
        await self.start(self.routine(f"source {name}", lambda: source.run(publish)))

    @property
    def trouble(self) -> list[str]:
        """Everything that is not as it should be, in a few words each: what is away, what waits, what was lost."""
        away = self.mesh.outage.trouble
        told = [
            away,
            self.knowledge.trouble,
            self.archivist.trouble,
            self.publisher.trouble if self.publisher is not None else "",
            *self.worker.troubles,
            *(f"sink waits: {runner.trouble}" for runner in self.sinks if runner.trouble),
        ]
        told += [self.sources.trouble] if self.sources is not None else []
        for routine in self.routines:
            # All of them fail when the mesh is away, and that has been said.
            if routine.trouble and not (away and MeshUnavailableError.__name__ in routine.trouble):
                told.append(f"{routine.name}: {routine.trouble}")
        return [each for each in told if each]

    @property
    def report(self) -> Report:
        """How this worker is, for those who look from outside."""
        worker = self.worker
        return Report(_named(worker.halted), _named(worker.stalled), _named(worker.restoring), self.trouble)

    async def lag(self) -> int:
        """How many events wait for the stages this worker has a hand in, over all of their partitions.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        consumers = [
            (stage, partition, place)
            for stage, partition in self.worker.owned
            for place in inputs_of(self.topology.stage(stage), partition)
        ]
        return sum(lag.waiting for lag in await self.mesh.lags(consumers))

    async def caught_up(self) -> None:
        """Wait until all that sources of this process kept while the mesh was away is in the mesh."""
        if self.sources is not None:
            await self.sources.caught_up()

    def give_up(self, error: BaseException) -> None:
        """End everything: going on would do harm."""
        if not self.failure.done():
            self.failure.set_exception(error)

    async def stop(self) -> None:
        """Stop what was started: sources first, so that what they said last is still worked on."""
        while self.routines:
            await self.routines.pop().stop()
        if self.sources is not None:
            await self.sources.close()


@asynccontextmanager
async def deployed(
    settings: Settings, topology: Topology, addresses: Addresses, *, stages: Iterable[str] | None = None
) -> AsyncIterator[Deployment]:
    """Connect, migrate, and run stages, timers, retention and the knowledge sink until the context ends.

    Nothing has to be reachable: services wait with back-off for what is away.

    Raises:
        UnfitServerError: the mesh's server answers, and must not carry a mesh.
    """
    async with AsyncExitStack() as stack:
        mesh = RedisMesh.connect(
            addresses.redis_url,
            settings.namespace,
            require_persistence=settings.require_persistence,
            on_warning=lambda found: log.warning("the mesh's server: %s; %s", found.what, found.remedy),
        )
        stack.push_async_callback(mesh.close)
        with suppress(MeshUnavailableError, TimeoutError):  # services will wait for it, and say so
            await asyncio.wait_for(mesh.ping(), _MEET_WITHIN_S)
        pool = await open_pool(addresses.database_url)
        stack.push_async_callback(_close, pool)
        executors = executors_of(settings)
        stack.push_async_callback(executors.close)
        knowledge = PostgresKnowledge(pool, embed=embed, provider=PROVIDER)
        handlers: Handlers = {RecallProblem: knowledge.recall, ExecuteAction: executors.answer}
        worker = Worker(
            mesh,
            topology,
            handlers,
            name=settings.worker_name,
            stages=stages,
            lease_s=settings.lease_s,
            stalled_s=settings.stalled_s,
        )
        intake = topology.streams.get(INTAKE)
        publisher = Publisher(mesh, intake, BackPressure(mesh, topology, {INTAKE})) if intake else None
        archivist = Archivist(mesh, Archive(settings.archive_folder), retain=settings.archive_retain)
        deployment = Deployment(settings, topology, mesh, pool, knowledge, executors, worker, publisher, archivist)
        stack.push_async_callback(deployment.stop)
        await deployment.start(*_routines(deployment, addresses.database_url))
        yield deployment


def executors_of(settings: Settings) -> Executors:
    """The executors the settings allow; without a setting there is no hand."""
    executors = Executors()
    if settings.supervisor_url and settings.supervisor_token:
        add_supervisor(executors, settings.supervisor_url, settings.supervisor_token.get_secret_value())
    if settings.webhook_hosts and settings.webhook_secret:
        secret = settings.webhook_secret.get_secret_value()
        executors.add(WebhookExecutor(allowed_hosts=settings.webhook_hosts, secret=secret))
    return executors


def add_supervisor(executors: Executors, url: str, token: str) -> None:
    """Let actions reach the units and configurations of a process supervisor."""
    client = SupervisorClient(url, token)
    executors.add(ProcessExecutor(client))
    executors.add(ConfigurationExecutor(client))


def _routines(deployment: Deployment, database_url: str) -> list[Routine]:
    settings, mesh, topology = deployment.settings, deployment.mesh, deployment.topology
    name, lease_s = settings.worker_name, settings.lease_s
    known = [topology.streams[stream] for stream in KNOWN_STREAMS if stream in topology.streams]
    sink = _MigratingSink(deployment.pool, database_url)
    deployment.sinks = [SinkRunner(mesh, "knowledge", sink, known, name=name, lease_s=lease_s)] if known else []
    worker, ticker = deployment.worker, Ticker(mesh, topology, name=name, lease_s=lease_s, after=deployment.caught_up)
    forwarder = Forwarder(mesh, topology, name=name, lease_s=lease_s)
    janitor = Janitor(mesh, topology, consumers=[("~sink-knowledge", known)], keeper=deployment.archivist)
    return [
        deployment.routine("worker", worker.run, worker.stop),
        *(deployment.routine("sink knowledge", runner.run) for runner in deployment.sinks),
        deployment.routine("retention", janitor.run),
        deployment.routine("forwarder", forwarder.run),
        deployment.routine("ticker", ticker.run),
        deployment.routine("report", lambda: keep_reporting(mesh.oversight, name, lambda: deployment.report)),
    ]


def _named(partitions: Mapping[tuple[str, int], str]) -> dict[str, str]:
    return {f"{stage}/{partition}": why for (stage, partition), why in partitions.items()}


def _journal(settings: Settings) -> Journal | None:
    folder = settings.state_dir / JOURNAL
    try:
        return Journal(folder, bytes_max=settings.journal_mb * 1_000_000, age_max_s=settings.journal_hours * 3600)
    except (JournalHeldError, OSError) as error:
        log.warning("there is no journal for when the mesh is away: %s", error)
        return None


class _MigratingSink(KnowledgeSink):
    """Brings the schema up to date before the first write, however late the server comes."""

    def __init__(self, pool: Pool, database_url: str) -> None:
        super().__init__(pool, embed=embed, provider=PROVIDER)
        self._database_url = database_url

    async def open(self) -> None:
        await migrate(self._database_url)
        await super().open()


async def _close(pool: Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), 2)
    except TimeoutError:
        pool.terminate()
