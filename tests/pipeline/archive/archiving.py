"""Streams with an archive, for its tests: what is put on them, how they are swept, and what is read back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.archive.archivist import Archivist
from pipeline.archive.folder import Archive
from pipeline.archive.history import read_history
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset, Output, Record, output_for
from pipeline.engine.retention import Janitor
from tests.contracts.counting import sample, topology
from topology.graph import Stream, Topology

HOUR_MS = 3_600_000


def archiving_topology(*, partitions: int = 1, consumed: bool = False) -> Topology:
    """``signals`` is archived; nobody reads it unless ``consumed``."""
    graph = topology(partitions=partitions)
    signals = graph.streams["signals"]
    archived = replace(signals, spec=signals.spec.model_copy(update={"archive": True}))
    stages = tuple(replace(stage, inputs=(archived,)) for stage in graph.stages if signals in stage.inputs)
    return replace(graph, streams={**graph.streams, "signals": archived}, stages=stages if consumed else ())


def later_ms(hours: float = 48) -> int:
    """The time so many hours from now."""
    return time.time_ns() // 1_000_000 + int(hours * HOUR_MS)


def janitor_of(
    mesh: Mesh, archive: Archive, graph: Topology, *, hours: float = 48, segment_records: int = 7
) -> Janitor:
    """A janitor and an archivist who live in the future."""
    archivist = Archivist(mesh, archive, segment_records=segment_records)
    return Janitor(mesh, graph, keeper=archivist, clock_ms=lambda: later_ms(hours))


def outputs(stream: Stream, numbers: Sequence[int]) -> list[Output]:
    """Events that say their number, spread over services."""
    return [output_for(stream, sample(number, f"s{number % 5}", number)) for number in numbers]


async def history(
    mesh: Mesh,
    archive: Archive,
    stream: Stream,
    since: Offset = BEGINNING,
    until: Offset | None = None,
    *,
    salvage: bool = False,
) -> list[Record]:
    """All of it."""
    return [record async for record in read_history(mesh, archive, stream, since, until, salvage=salvage)]


def told(records: Sequence[Record]) -> list[tuple[int, Offset, str, str, bytes]]:
    """Everything a record says, to compare."""
    return [(r.partition, r.offset, r.key, r.event_type, r.value) for r in records]


async def on_the_mesh(mesh: Mesh, stream: Stream) -> list[Record]:
    """What the mesh has of a stream, in order of offset."""
    found = await mesh.read(
        {(stream.name, partition): BEGINNING for partition in range(stream.partitions)}, count=100_000, wait_s=0
    )
    return sorted(found, key=lambda record: (record.offset, record.partition))


def files(archive: Archive) -> dict[str, bytes]:
    """Every file of an archive, by its path in it."""
    return {str(path.relative_to(archive.folder)): path.read_bytes() for path in _paths(archive.folder)}


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
