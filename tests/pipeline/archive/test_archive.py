"""What is trimmed is archived first, and a reader cannot tell where the archive ends and the mesh begins."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.ports import ExecuteAction
from pipeline.archive.archivist import Archivist
from pipeline.archive.folder import Archive
from pipeline.archive.history import read_history
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset, Place, Record
from pipeline.engine.retention import Janitor
from tests.contracts.counting import Echo, sample
from tests.contracts.meshes import MESHES, opened
from tests.pipeline.archive.archiving import (
    archiving_topology,
    files,
    history,
    janitor_of,
    later_ms,
    on_the_mesh,
    outputs,
    told,
)

SIGNALS: Place = ("signals", 0)
GRAPH = archiving_topology()
STREAM = GRAPH.streams["signals"]
NOW_MS = 1_700_000_000_000


@pytest.fixture(params=MESHES)
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Mesh]:
    async with opened(request.param, request) as mesh:
        yield mesh


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


async def test_what_is_trimmed_is_read_from_the_archive_as_it_was(mesh: Mesh, archive: Archive) -> None:
    graph = archiving_topology(partitions=3)
    stream = graph.streams["signals"]
    await mesh.publish(outputs(stream, range(100)))
    before = await on_the_mesh(mesh, stream)
    janitor = janitor_of(mesh, archive, graph)
    assert await janitor.sweep() == 100
    assert await on_the_mesh(mesh, stream) == []
    assert told(await history(mesh, archive, stream)) == told(before)

    await mesh.publish(outputs(stream, range(100, 150)))
    both = [*before, *await on_the_mesh(mesh, stream)]
    assert told(await history(mesh, archive, stream)) == told(both), "over the seam"
    await janitor.sweep()
    assert told(await history(mesh, archive, stream)) == told(both)


async def test_since_and_until_cut_the_same_wherever_the_records_are(mesh: Mesh, archive: Archive) -> None:
    await mesh.publish(outputs(STREAM, range(30)))
    records = await on_the_mesh(mesh, STREAM)
    for swept in range(2):
        for first, last in [(-1, 29), (0, 0), (6, 7), (3, 20), (13, 14), (20, 3)]:
            since = BEGINNING if first < 0 else records[first].offset
            read = await history(mesh, archive, STREAM, since, records[last].offset)
            assert told(read) == told(records[first + 1 : last + 1]), f"{first} {last} {swept}"
        await janitor_of(mesh, archive, GRAPH).sweep()


async def test_nothing_is_archived_before_every_stage_has_committed_it(mesh: Mesh, archive: Archive) -> None:
    graph = archiving_topology(consumed=True)
    driver = Driver(graph, {ExecuteAction: Echo()}, mesh=mesh)
    await driver.publish("signals", [sample(n, "a", n) for n in range(10)])
    janitor = janitor_of(mesh, archive, graph)
    await janitor.sweep()
    assert files(archive) == {}
    await driver.run_until_idle()
    assert await janitor.sweep() >= 9
    assert len(await on_the_mesh(mesh, graph.streams["signals"])) == 1
    assert len(await history(mesh, archive, graph.streams["signals"])) == 10
    assert sum(archive.header(SIGNALS, span).count for span in archive.spans(SIGNALS)) == 9


async def test_a_record_published_or_trimmed_while_somebody_reads_is_read_once(mesh: Mesh, archive: Archive) -> None:
    graph = archiving_topology(partitions=2)
    stream = graph.streams["signals"]
    await mesh.publish(outputs(stream, range(40)))
    janitor, published, read = janitor_of(mesh, archive, graph, segment_records=3), 40, []
    async for record in read_history(mesh, archive, stream):
        read.append(record)
        if len(read) % 7 == 0 and published < 120:
            await mesh.publish(outputs(stream, range(published, published + 5)))
            published += 5
        if len(read) % 5 == 0:
            await janitor.sweep()
    assert published == 120
    assert len(read) == 120
    assert told(read) == told(await history(mesh, archive, stream))


class Interrupted(MemoryMesh):
    """Something else happens before the next read takes effect."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super().read(places, count=count, wait_s=wait_s)


@pytest.mark.parametrize("published_meanwhile", [0, 5])
async def test_what_is_trimmed_between_a_look_at_the_archive_and_one_at_the_mesh_is_not_missed(
    archive: Archive, published_meanwhile: int
) -> None:
    mesh = Interrupted(lambda: NOW_MS)
    await mesh.publish(outputs(STREAM, range(20)))

    async def meanwhile() -> None:
        await janitor_of(mesh, archive, GRAPH).sweep()
        await mesh.publish(outputs(STREAM, range(20, 20 + published_meanwhile)))

    mesh.meanwhile = meanwhile
    read = await history(mesh, archive, STREAM)
    assert len(read) == 20 + published_meanwhile
    assert told(read) == told(await history(mesh, archive, STREAM))


async def test_many_read_while_others_publish_and_trim(mesh: Mesh, archive: Archive) -> None:
    janitor, published, done = janitor_of(mesh, archive, GRAPH, segment_records=5), 0, False

    async def publish() -> None:
        nonlocal published, done
        for _ in range(30):
            await mesh.publish(outputs(STREAM, range(published, published + 10)))
            published += 10
            await asyncio.sleep(0)
        done = True

    async def sweep() -> None:
        while not done:
            await janitor.sweep()
            await asyncio.sleep(0)

    async def read() -> None:
        while not done:
            before = published
            numbers = [record.value for record in await history(mesh, archive, STREAM)]
            assert len(numbers) == len(set(numbers)) >= before

    await asyncio.gather(publish(), sweep(), read(), read())
    assert len(await history(mesh, archive, STREAM)) == 300
    assert janitor.trimmed > 100


async def test_several_janitors_at_once_archive_everything_once(mesh: Mesh, archive: Archive) -> None:
    await mesh.publish(outputs(STREAM, range(50)))
    before = await on_the_mesh(mesh, STREAM)
    await asyncio.gather(*(janitor_of(mesh, archive, GRAPH, segment_records=4).sweep() for _ in range(4)))
    assert await on_the_mesh(mesh, STREAM) == []
    assert told(await history(mesh, archive, STREAM)) == told(before)
    counts = [archive.header(SIGNALS, span).count for span in archive.spans(SIGNALS)]
    assert sum(counts) == 50


async def test_a_quiet_stream_does_not_become_a_file_per_sweep(mesh: Mesh, archive: Archive) -> None:
    await mesh.publish(outputs(STREAM, [1]))
    assert await janitor_of(mesh, archive, GRAPH, hours=24.9).sweep() == 0, "due, but an hour's worth is kept together"
    assert await janitor_of(mesh, archive, GRAPH, hours=25.1).sweep() == 1


async def test_without_an_archive_nothing_is_trimmed_that_wants_one(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    await mesh.publish(outputs(STREAM, range(3)))
    janitor = Janitor(mesh, GRAPH, clock_ms=later_ms)
    assert (await janitor.sweep(), await janitor.sweep()) == (0, 0)
    assert [record.message for record in caplog.records] == [
        "signals is declared with archive: true, and there is no archive; it is not trimmed"
    ]


# --- when the disk does not take it ---------------------------------------------------------------------------------


@contextmanager
def disk_full() -> Iterator[None]:
    """The kernel lets no file grow beyond a few hundred bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_the_disk_does_not_take_stays_on_the_stream_and_is_tried_again(
    mesh: Mesh, archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    await mesh.publish(outputs(STREAM, range(200)))
    await mesh.publish([output._replace(stream="numbered") for output in outputs(STREAM, range(5))])
    before = await on_the_mesh(mesh, STREAM)
    archivist = Archivist(mesh, archive)
    janitor = Janitor(mesh, GRAPH, keeper=archivist, clock_ms=later_ms)
    with disk_full():
        assert await janitor.sweep() == 5, "what needs no archive is trimmed as ever"
        assert await janitor.sweep() == 0
    assert told(await on_the_mesh(mesh, STREAM)) == told(before)
    assert files(archive) == {}, "no half of a file is left"
    assert "signals/0 cannot be archived, so nothing of it is trimmed: [Errno 27]" in archivist.trouble
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1, "said once"

    assert await janitor.sweep() == 200
    assert archivist.trouble == ""
    assert told(await history(mesh, archive, STREAM)) == told(before)


async def test_a_folder_that_cannot_be_made_is_said(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here is no folder")
    archivist = Archivist(mesh, Archive(tmp_path / "file"))
    await mesh.publish(outputs(STREAM, range(2)))
    assert await Janitor(mesh, GRAPH, keeper=archivist, clock_ms=later_ms).sweep() == 0
    assert "Not a directory" in archivist.trouble
