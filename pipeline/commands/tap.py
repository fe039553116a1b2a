"""``aiops tap``: what a stream says, as it says it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import orjson

from pipeline.archive.folder import Archive
from pipeline.archive.history import read_history
from pipeline.commands.moments import just_before
from pipeline.commands.output import fit, print_json_line, shorten
from pipeline.commands.reach import reached_mesh
from pipeline.commands.wanted import Wanted, wanted
from pipeline.console.telling import clock
from pipeline.engine.mesh import Mesh, MeshUnavailableError
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Place, Record
from pipeline.loading import load_topology
from pipeline.settings import settings
from pipeline.tap import now
from pipeline.tap import tap as listen
from topology.errors import BadInputError, UsageError
from topology.graph import Stream

_AGAIN_AFTER_S = 1.0
_RECORDS_PER_READ = 500
_PAYLOAD_CHARS_MAX = 300


@click.command()
@click.argument("stream")
@click.option("--from-start", is_flag=True, help="Begin with the oldest event that is still there, not with the next.")
@click.option("--since", metavar="TIME|DURATION", help="Begin there, in the archive too: 2026-03-01T12:00, 90m, 7d.")
@click.option("--salvage", is_flag=True, help="With --since: leave out what is damaged or missing in the archive.")
@click.option(
    "--where", metavar="TYPE|CONDITION", help="Only this type (metric.*, *.fired), or what a condition holds for."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--topology", type=click.Path(path_type=Path), help="Whose streams; the shipped topology's by default.")
@click.option("--json", "as_json", is_flag=True, help="Print whole events, one JSON line each.")
def tap(
    stream: str,
    from_start: bool,
    since: str | None,
    salvage: bool,
    where: str | None,
    count: int | None,
    topology: Path | None,
    as_json: bool,
) -> None:
    """Print the events of STREAM as they come, until Ctrl-C; nobody is held up by it.

    Besides the streams of the topology there are dead-letters, late, answers and shed. Ticks are left out unless asked
    for by --where tick.passed. A condition is what a stage's input may have: "payload.severity >= 'high'".
    """
    if since is not None and from_start:
        msg = "found --since and --from-start, expected one of them"
        raise UsageError(msg)
    if salvage and since is None:
        msg = "found --salvage without --since, expected both: only the archive can be damaged"
        raise UsageError(msg)
    begin = None if since is None else just_before("--since", since)
    found = _stream(stream, topology)
    asyncio.run(_follow(found, from_start, begin, salvage, wanted(where, found), count, as_json))


async def _follow(
    stream: Stream,
    from_start: bool,
    since: Offset | None,
    salvage: bool,
    is_wanted: Wanted,
    count: int | None,
    as_json: bool,
) -> None:
    left = count
    async with reached_mesh(settings()) as mesh:
        if since is None:
            records = _records(mesh, stream, BEGINNING if from_start else now())
        else:
            records = _records_since(mesh, Archive(settings().archive_folder), stream, since, salvage)
        async for record in records:
            if not is_wanted(record):
                continue
            _print(record, as_json=as_json)
            left = None if left is None else left - 1
            if left == 0:
                return


async def _records_since(
    mesh: Mesh, archive: Archive, stream: Stream, since: Offset, salvage: bool
) -> AsyncIterator[Record]:
    """What is archived, what the mesh has, and what comes, for ever; after an outage it goes on where it was."""
    read: dict[Place, Offset] = {(stream.name, partition): since for partition in range(stream.partitions)}
    told_of_outage = False
    while True:
        try:
            async for record in read_history(mesh, archive, stream, read, salvage=salvage):
                read[record.stream, record.partition] = record.offset
                yield record
            while True:
                found = await mesh.read(read, count=_RECORDS_PER_READ, wait_s=1.0)
                told_of_outage = False
                for record in sorted(found, key=lambda each: (each.offset, each.partition)):
                    read[record.stream, record.partition] = record.offset
                    yield record
        except MeshUnavailableError as error:
            if not told_of_outage:
                click.echo(f"aiops: {error}; trying again until it is back", err=True)
            told_of_outage = True
            await asyncio.sleep(_AGAIN_AFTER_S)


async def _records(mesh: Mesh, stream: Stream, since: Offset) -> AsyncIterator[Record]:
    """Records for ever; after an outage of the mesh it goes on where it was."""
    told_of_outage = False
    while True:
        try:
            async for records in listen(mesh, [stream], since=since):
                told_of_outage = False
                for record in records:
                    since = max(since, record.offset)
                    yield record
        except MeshUnavailableError as error:
            if not told_of_outage:
                click.echo(f"aiops: {error}; trying again until it is back", err=True)
            told_of_outage = True
            await asyncio.sleep(_AGAIN_AFTER_S)


def _print(record: Record, *, as_json: bool) -> None:
    try:
        event = record.event
    except BadInputError as error:
        # It is on the stream, and somebody should know; a program that reads JSON is not to choke on it.
        click.echo(f"aiops: {record.stream}/{record.partition} {record.offset} cannot be decoded: {error}", err=True)
        return
    if as_json:
        print_json_line(record.value)
        return
    said = orjson.dumps(event.payload.model_dump(mode="json", exclude_defaults=True)).decode()
    key = record.key or "-"
    line = f"{clock(event.timestamp)}  {event.event_type:<18} {key:<16} {shorten(said, _PAYLOAD_CHARS_MAX)}"
    click.echo(fit(line))
    sys.stdout.flush()


def _stream(name: str, file: Path | None) -> Stream:
    topology = load_topology(file)
    streams = {**topology.streams, **{stream.name: stream for stream in OPERATION_STREAMS}}
    if name in streams and not streams[name].stored:
        readers = ", ".join(stage.id for stage in topology.consumers_of(name))
        msg = (
            f"found stream {name!r}, which is passed on to {readers} in memory and lies nowhere, so that there is nothing to "
            f"see; tap what that emits, or take `stored: false` from the stream in a new deployment"
        )
        raise UsageError(msg)
    if name not in streams:
        msg = f"found stream {name!r}, expected one of {', '.join(streams)}"
        raise UsageError(msg)
    return streams[name]
