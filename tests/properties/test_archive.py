"""Whatever happens in whatever order, a reader of the history gets what was put on the stream: all of it, once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.ports import ExecuteAction
from pipeline.archive.archivist import Archivist
from pipeline.archive.folder import Archive
from pipeline.archive.history import read_history
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease
from pipeline.engine.record import BEGINNING, Commit, Offset, Place, Record
from pipeline.engine.retention import Janitor
from tests.contracts.counting import Echo, sample
from tests.pipeline.archive.archiving import HOUR_MS, archiving_topology, history, on_the_mesh, told


class Killed(BaseException):
    """The process ends here."""


class MortalMesh(MemoryMesh):
    """A mesh whose user is killed at a call of the archivist or the janitor, before it takes effect or after."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000
        self.dies_in: int | None = None
        super().__init__(lambda: self.now_ms)

    def _maybe_die(self) -> None:
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.dies_in = None
                raise Killed

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        self._maybe_die()
        outcomes = await super().commit(commits)
        self._maybe_die()
        return outcomes

    async def trim(self, place: Place, before: Offset) -> int:
        self._maybe_die()
        trimmed = await super().trim(place, before)
        self._maybe_die()
        return trimmed


class MortalArchive(Archive):
    """Dies with the mesh: before a file is written, or when it just has its name."""

    def __init__(self, folder: Path, mesh: MortalMesh) -> None:
        super().__init__(folder)
        self.mesh = mesh

    def write(self, place: Place, records: Sequence[Record], after: Offset) -> Path:
        self.mesh._maybe_die()
        path = super().write(place, records, after)
        self.mesh._maybe_die()
        return path


class Play:
    """One run: the input as it was assigned its offsets, and readers that are in the middle."""

    def __init__(self, folder: Path) -> None:
        self.graph = archiving_topology(partitions=2, consumed=True)
        self.stream = self.graph.streams["signals"]
        self.mesh = MortalMesh()
        self.archive = MortalArchive(folder, self.mesh)
        self.driver = self._driver()
        self.put: list[Record] = []
        self.number = 0
        self.readers: list[tuple[AsyncGenerator[Record, None], list[Record], int]] = []

    def _driver(self) -> Driver:
        return Driver(self.graph, {ExecuteAction: Echo()}, mesh=self.mesh)

    async def publish(self, count: int) -> None:
        known = {(record.partition, record.offset) for record in self.put}
        events = [sample(n, f"s{n % 5}", n) for n in range(self.number, self.number + count)]
        self.number += count
        await self.driver.publish("signals", events)
        new = await on_the_mesh(self.mesh, self.stream)
        self.put += [record for record in new if (record.partition, record.offset) not in known]

    async def commit(self, _: int) -> None:
        await self.driver.run_until_idle()

    async def wait(self, hours: int) -> None:
        self.mesh.now_ms += hours * 7 * HOUR_MS

    async def sweep(self, dies_in: int) -> None:
        archivist = Archivist(self.mesh, self.archive, segment_records=3, lease_s=1)
        janitor = Janitor(self.mesh, self.graph, keeper=archivist, clock_ms=lambda: self.mesh.now_ms)
        self.mesh.dies_in = dies_in
        try:
            await janitor.sweep()
        except Killed:
            self.mesh.now_ms += 2_000
        self.mesh.dies_in = None

    async def begin_reading(self, _: int) -> None:
        self.readers.append((read_history(self.mesh, self.archive, self.stream), [], len(self.put)))

    async def read_on(self, count: int) -> None:
        for reader, read, _ in self.readers:
            for _number in range(count):
                record = await anext(reader, None)
                if record is not None:
                    read.append(record)

    async def end(self) -> None:
        everything = told(self.put)
        for reader, read, known in self.readers:
            read += [record async for record in reader]
            assert read == sorted(read, key=lambda record: (record.offset, record.partition))
            for partition in range(self.stream.partitions):
                # What was put on a partition after a reader had come to its end need not be in it.
                mine = [each for each in told(read) if each[0] == partition]
                assert mine == [each for each in everything if each[0] == partition][: len(mine)]
            assert len(read) >= known
        assert told(await history(self.mesh, self.archive, self.stream)) == everything
        for record in self.put[:: max(1, len(self.put) // 5)]:
            since = await history(self.mesh, self.archive, self.stream, record.offset)
            assert told(since) == [each for each in everything if each[1] > record.offset]
            until = await history(self.mesh, self.archive, self.stream, BEGINNING, record.offset)
            assert told(until) == [each for each in everything if each[1] <= record.offset]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 12)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 6)),
        st.tuples(st.just("sweep"), st.integers(0, 40)),
        st.tuples(st.just("begin_reading"), st.just(0)),
        st.tuples(st.just("read_on"), st.integers(1, 9)),
    ),
    max_size=40,
)


@given(actions)
@settings(max_examples=150)
def test_any_interleaving_gives_exactly_the_input(steps: list[tuple[str, Any]]) -> None:
    async def play() -> None:
        with TemporaryDirectory() as folder:
            run = Play(Path(folder))
            for action, argument in steps:
                await getattr(run, action)(argument)
            await run.end()

    asyncio.run(play())
