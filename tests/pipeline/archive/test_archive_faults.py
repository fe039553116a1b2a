"""Archivists that are killed, servers that forget, files that are damaged, missing or too old."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.archive.archivist import Archivist
from pipeline.archive.folder import Archive
from pipeline.archive.history import ArchiveGapError, read_history
from pipeline.archive.segment import DamagedSegmentError, Span
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease, Mesh, MeshUnavailableError
from pipeline.engine.record import BEGINNING, Commit, Offset, Place
from pipeline.engine.retention import Janitor
from tests.contracts.meshes import MESHES, opened
from tests.pipeline.archive.archiving import (
    HOUR_MS,
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


class Unlucky(MemoryMesh):
    """Goes away before, or after, what is asked of it."""

    fails: str = ""

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        if self.fails == "before commit":
            raise MeshUnavailableError(self.fails)
        if self.fails == "fenced":
            return [FencedError("stolen")] * len(commits)
        outcomes = await super().commit(commits)
        if self.fails == "after commit":
            raise MeshUnavailableError(self.fails)
        return outcomes

    async def trim(self, place: Place, before: Offset) -> int:
        if self.fails == "before trim":
            raise MeshUnavailableError(self.fails)
        return await super().trim(place, before)


@pytest.mark.parametrize("fails", ["before commit", "after commit", "before trim"])
async def test_an_end_between_file_and_trim_leaves_one_file_and_no_event_twice(archive: Archive, fails: str) -> None:
    mesh = Unlucky(lambda: NOW_MS)
    await mesh.publish(outputs(STREAM, range(5)))
    before = await on_the_mesh(mesh, STREAM)
    mesh.fails = fails
    with pytest.raises(MeshUnavailableError):
        await janitor_of(mesh, archive, GRAPH).sweep()
    assert told(await on_the_mesh(mesh, STREAM)) == told(before)
    left = files(archive)
    assert len(left) == 1
    assert told(await history(mesh, archive, STREAM)) == told(before), "while both have it"

    mesh.fails = ""
    await mesh.publish(outputs(STREAM, range(5, 8)))
    before = await on_the_mesh(mesh, STREAM)
    await janitor_of(mesh, archive, GRAPH).sweep()
    assert await on_the_mesh(mesh, STREAM) == []
    assert left.items() <= files(archive).items()
    assert [archive.header(SIGNALS, span).count for span in archive.spans(SIGNALS)] == [5, 3]
    assert told(await history(mesh, archive, STREAM)) == told(before)


async def test_what_a_killed_writer_left_unfinished_is_removed(mesh: Mesh, archive: Archive) -> None:
    folder = archive.path_of(SIGNALS, Span(BEGINNING, BEGINNING)).parent
    folder.mkdir(parents=True)
    (folder / ".1-1_1-2.jsonl.zst.abc.partial").write_bytes(b"half")
    await mesh.publish(outputs(STREAM, range(2)))
    assert len(await history(mesh, archive, STREAM)) == 2
    await janitor_of(mesh, archive, GRAPH).sweep()
    assert [path.rpartition(".")[2] for path in files(archive)] == ["zst"]


async def test_a_file_that_was_damaged_before_its_events_were_trimmed_is_written_anew(
    archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = Unlucky(lambda: NOW_MS)
    await mesh.publish(outputs(STREAM, range(5)))
    before = await on_the_mesh(mesh, STREAM)
    mesh.fails = "before commit"
    with pytest.raises(MeshUnavailableError):
        await janitor_of(mesh, archive, GRAPH).sweep()
    (span,) = archive.spans(SIGNALS)
    path = archive.path_of(SIGNALS, span)
    path.write_bytes(path.read_bytes()[:-3])
    mesh.fails = ""
    await janitor_of(mesh, archive, GRAPH).sweep()
    assert told(await history(mesh, archive, STREAM)) == told(before)
    assert [name.rpartition(".")[2] for name in files(archive)] == ["zst", "damaged"]
    assert "written anew" in caplog.text


async def test_files_behind_one_that_went_missing_are_not_taken_over_before_it_is_written_anew(
    archive: Archive,
) -> None:
    mesh = MemoryMesh(lambda: NOW_MS)
    await mesh.publish(outputs(STREAM, range(10)))
    before = await on_the_mesh(mesh, STREAM)
    archive.write(SIGNALS, before[5:], before[4].offset)
    await janitor_of(mesh, archive, GRAPH).sweep()
    assert await on_the_mesh(mesh, STREAM) == []
    assert told(await history(mesh, archive, STREAM)) == told(before)


async def test_a_writer_that_lost_its_lease_trims_nothing_and_its_file_is_taken_over(archive: Archive) -> None:
    mesh = Unlucky(lambda: NOW_MS)
    mesh.fails = "fenced"
    await mesh.publish(outputs(STREAM, range(20)))
    before = await on_the_mesh(mesh, STREAM)
    assert await janitor_of(mesh, archive, GRAPH).sweep() == 0
    mesh.fails = ""
    assert await janitor_of(mesh, archive, GRAPH).sweep() == 20
    assert told(await history(mesh, archive, STREAM)) == told(before)
    assert sum(archive.header(SIGNALS, span).count for span in archive.spans(SIGNALS)) == 20


async def test_overlapping_files_are_read_once(mesh: Mesh, archive: Archive) -> None:
    await mesh.publish(outputs(STREAM, range(20)))
    records = await on_the_mesh(mesh, STREAM)
    for first, last in [(0, 5), (0, 9), (3, 7), (8, 12)]:
        after = records[first - 1].offset if first else BEGINNING
        archive.write(SIGNALS, records[first : last + 1], after)
    assert told(await history(mesh, archive, STREAM)) == told(records)
    await janitor_of(mesh, archive, GRAPH).sweep()
    assert told(await history(mesh, archive, STREAM)) == told(records)


# --- when the mesh is another one -----------------------------------------------------------------------------------


async def test_a_server_that_was_emptied_goes_on_with_the_same_archive(archive: Archive) -> None:
    first, second = MemoryMesh(lambda: NOW_MS), MemoryMesh(lambda: NOW_MS + 1)
    await first.publish(outputs(STREAM, range(10)))
    before = await on_the_mesh(first, STREAM)
    await janitor_of(first, archive, GRAPH).sweep()
    await second.publish(outputs(STREAM, range(10, 20)))
    after = await on_the_mesh(second, STREAM)
    await janitor_of(second, archive, GRAPH).sweep()
    assert told(await history(second, archive, STREAM)) == told([*before, *after])


async def test_nothing_is_trimmed_that_is_older_than_an_archive_that_does_not_have_it(archive: Archive) -> None:
    first, second = MemoryMesh(lambda: NOW_MS), MemoryMesh(lambda: NOW_MS - 1000)
    await first.publish(outputs(STREAM, range(10)))
    await janitor_of(first, archive, GRAPH).sweep()
    await second.publish(outputs(STREAM, range(10, 20)))
    archivist = Archivist(second, archive)
    assert await Janitor(second, GRAPH, keeper=archivist, clock_ms=later_ms).sweep() == 0
    assert "the server's clock was put back" in archivist.trouble


async def test_what_another_worker_has_in_a_folder_of_its_own_is_missed(
    mesh: Mesh, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Archive(tmp_path / "other")
    rounds = []
    for number, folder in enumerate([archive, other, archive, other]):
        await mesh.publish(outputs(STREAM, range(number * 10, number * 10 + 10)))
        rounds.append(await on_the_mesh(mesh, STREAM))
        await janitor_of(mesh, folder, GRAPH, segment_records=100).sweep()
    assert "Let AIOPS_ARCHIVE_DIR of all workers name one folder" in caplog.text
    with pytest.raises(ArchiveGapError, match=f"after {rounds[0][-1].offset} and up to {rounds[1][-1].offset} are mis"):
        await history(mesh, archive, STREAM)
    with pytest.raises(ArchiveGapError, match="another folder"):
        await history(mesh, archive, STREAM, rounds[2][0].offset)
    with pytest.raises(ArchiveGapError, match="another folder"):
        await history(mesh, Archive(tmp_path / "third"), STREAM)
    assert told(await history(mesh, archive, STREAM, salvage=True)) == told([*rounds[0], *rounds[2]])
    assert told(await history(mesh, other, STREAM, rounds[2][-1].offset)) == told(rounds[3])
    for path in other.folder.rglob("*.zst"):
        path.rename(archive.path_of(SIGNALS, Span(BEGINNING, BEGINNING)).with_name(path.name))
    assert told(await history(mesh, archive, STREAM)) == told([record for each in rounds for record in each])


# --- when files are damaged, missing or too old ---------------------------------------------------------------------


async def test_a_damaged_file_is_named_and_the_rest_can_be_salvaged(mesh: Mesh, archive: Archive) -> None:
    await mesh.publish(outputs(STREAM, range(30)))
    before = await on_the_mesh(mesh, STREAM)
    await janitor_of(mesh, archive, GRAPH, segment_records=10).sweep()
    path = archive.path_of(SIGNALS, archive.spans(SIGNALS)[1])
    path.write_bytes(path.read_bytes()[:-5])
    reading = read_history(mesh, archive, STREAM)
    assert told([await anext(reading) for _ in range(10)]) == told(before[:10])
    with pytest.raises(DamagedSegmentError, match=str(path)):
        await anext(reading)  # nothing of a damaged file is handed out unasked
    assert told(await history(mesh, archive, STREAM, salvage=True)) == told([*before[:10], *before[20:]])


@pytest.mark.parametrize("since", [-1, 3, 12])
async def test_a_missing_file_is_noticed(mesh: Mesh, archive: Archive, since: int) -> None:
    await mesh.publish(outputs(STREAM, range(30)))
    before = await on_the_mesh(mesh, STREAM)
    await janitor_of(mesh, archive, GRAPH, segment_records=10).sweep()
    archive.path_of(SIGNALS, archive.spans(SIGNALS)[1]).unlink()
    with pytest.raises(ArchiveGapError, match=f"up to {before[19].offset} are missing"):
        await history(mesh, archive, STREAM, BEGINNING if since < 0 else before[since].offset)
    assert told(await history(mesh, archive, STREAM, before[19].offset)) == told(before[20:])


async def test_archived_events_are_kept_as_long_as_is_said(archive: Archive) -> None:
    now_ms = NOW_MS
    mesh = MemoryMesh(lambda: now_ms)
    archivist = Archivist(mesh, archive, retain=timedelta(days=30), clock_ms=lambda: now_ms)
    janitor = Janitor(mesh, GRAPH, keeper=archivist, clock_ms=lambda: now_ms)
    for day in range(60):
        await mesh.publish(outputs(STREAM, range(day * 10, day * 10 + 10)))
        now_ms += 24 * HOUR_MS
        await janitor.sweep()
    read = await history(mesh, archive, STREAM)
    days = {(now_ms - record.offset.ms) // (24 * HOUR_MS) for record in read}
    assert days == set(range(1, 31))
    assert archivist.expired == 600 - len(read)


async def test_a_reader_from_whom_something_was_taken_away_is_told(mesh: Mesh, archive: Archive) -> None:
    await mesh.publish(outputs(STREAM, range(30)))
    before = await on_the_mesh(mesh, STREAM)
    await janitor_of(mesh, archive, GRAPH, segment_records=10).sweep()
    reading = read_history(mesh, archive, STREAM)
    assert (await anext(reading)).offset == before[0].offset
    for span in archive.spans(SIGNALS)[:2]:
        archive.path_of(SIGNALS, span).unlink()
    with pytest.raises(ArchiveGapError):
        _ = [record async for record in reading]
