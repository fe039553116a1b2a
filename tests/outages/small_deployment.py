"""A small deployment for outages: one worker, sources with a journal, and an account of all that was accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agents.ports import ExecuteAction
from pipeline.engine.mesh import LostWritesError, MeshUnavailableError
from pipeline.engine.publisher import Publisher
from pipeline.engine.record import BEGINNING
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.server_check import UnfitServerError
from pipeline.engine.supervision import Routine
from pipeline.engine.worker import Worker
from pipeline.sources.journal import Journal, Keeping
from pipeline.sources.journaled import JournaledPublisher
from tests.contracts.counting import Echo, line, topology
from tests.polling import eventually
from topology.errors import RetryableError

PROMISED = Keeping("refuse")
SAMPLED = Keeping("drop", priority=1)


class SmallDeployment:
    """Numbers the lines of services: each answer exactly once, in order, shows that nothing was lost or doubled."""

    def __init__(self, url: str, folder: Path, *, lease_s: float = 1.5, journal_bytes: int = 10_000_000) -> None:
        self.graph = topology()
        self.mesh = RedisMesh.connect(url, "t")
        self.journal = Journal(folder / "journal", bytes_max=journal_bytes, age_max_s=3600)
        self.sources = JournaledPublisher(Publisher(self.mesh, self.graph.streams["signals"]), self.journal)
        self.echo = Echo()
        self.worker = Worker(self.mesh, self.graph, {ExecuteAction: self.echo}, name="one", lease_s=lease_s)
        self.ended_by: list[BaseException] = []
        self.accepted: list[int] = []
        self.refused = 0
        fatal = (LostWritesError, UnfitServerError)
        self.routines = [
            Routine("worker", self.worker.run, fatal=fatal, on_fatal=self.ended_by.append, stop=self.worker.stop),
            Routine("journal", self.sources.run, fatal=fatal, on_fatal=self.ended_by.append),
        ]

    async def say(self, numbers: Sequence[int], *, source: str = "door", keeping: Keeping = PROMISED) -> None:
        """Publish lines as a source does; what is refused is not accepted."""
        publish = self.sources.of(source, keeping)
        for number in numbers:
            try:
                await publish([line(number, f"s{number % 5}", number)])
            except RetryableError:
                self.refused += 1
            else:
                self.accepted.append(number)

    async def numbered(self) -> list[Any]:
        """What came out at the end, in order of offset."""
        places = {("numbered", partition): BEGINNING for partition in range(3)}
        records = await self.mesh.read(places, count=100_000, wait_s=0)
        return [record.event.payload for record in sorted(records, key=lambda record: record.offset)]

    async def everything_once(self, within_s: float = 20) -> None:
        """Wait until all that was accepted has come out, and see that it did so once and in order."""

        async def came_out() -> bool:
            with suppress(MeshUnavailableError):
                return len(await self.numbered()) >= len(self.accepted)
            return False

        await eventually(came_out, saying="everything comes out", within_s=within_s, seen=lambda: self.told)
        said = await self.numbered()
        by_service: dict[str, list[float]] = {}
        for payload in said:
            by_service.setdefault(payload.service, []).append(payload.score)
        assert len(said) == len(self.accepted)
        assert all(scores == list(range(1, len(scores) + 1)) for scores in by_service.values())
        # The world was asked once about each line, in the order in which the service's lines were accepted.
        assert set(self.echo.asked.values()) <= {1}
        assert sorted(self.echo.asked) == sorted(f"line {number}" for number in self.accepted)
        for service in by_service:
            heard = [f"line {number}" for number in self.accepted if f"s{number % 5}" == service]
            out = [p.subject.removesuffix(" asked 1 time(s)") for p in said if p.service == service]
            assert out == heard

    @property
    def told(self) -> str:
        """What a person is told is wrong."""
        return "; ".join(filter(None, [self.mesh.outage.trouble, self.sources.trouble]))


@asynccontextmanager
async def deployed_small(url: str, folder: Path, **settings: Any) -> AsyncIterator[SmallDeployment]:
    """A deployment that runs until the end of the block."""
    deployment = SmallDeployment(url, folder, **settings)
    for routine in deployment.routines:
        await routine.start()
    try:
        yield deployment
    finally:
        for routine in reversed(deployment.routines):
            await routine.stop()
        await deployment.sources.close()
        await deployment.mesh.close()


async def passes(seconds: float) -> None:
    """Wait until so much time has passed, for what must not happen meanwhile."""
    clock = asyncio.get_running_loop()
    until_s = clock.time() + seconds
    await eventually(lambda: clock.time() >= until_s, saying="time passes", within_s=seconds + 5)
