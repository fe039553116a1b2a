"""``aiops tap``: what a stream says, as it says it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from pathlib import Path

import click
import orjson

from pipeline.commands.output import fit, print_json_line, shorten
from pipeline.commands.reach import reached_mesh
from pipeline.console.telling import clock
from pipeline.engine.mesh import Mesh, MeshUnavailableError
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset, Record
from pipeline.loading import load_topology
from pipeline.settings import settings
from pipeline.tap import now
from pipeline.tap import tap as listen
from topology.errors import BadInputError, UsageError
from topology.graph import Stream
from topology.payloads import TickPassed
from topology.registry import registered

_AGAIN_AFTER_S = 1.0
_PAYLOAD_CHARS_MAX = 300


@click.command()
@click.argument("stream")
@click.option("--from-start", is_flag=True, help="Begin with the oldest event that is still there, not with the next.")
@click.option("--where", metavar="TYPE", help="Only this event type; * stands for anything: metric.*, *.fired.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--topology", type=click.Path(path_type=Path), help="Whose streams; the shipped topology's by default.")
@click.option("--json", "as_json", is_flag=True, help="Print whole events, one JSON line each.")
def tap(
    stream: str, from_start: bool, where: str | None, count: int | None, topology: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Print the events of STREAM as they come, until Ctrl-C; nobody is held up by it.

    Besides the streams of the topology there are dead-letters, late and answers. Ticks are left out unless asked for by
    --where tick.passed.
    """
    if where is not None:
        _refuse_unknown_type(where)
    asyncio.run(_follow(_stream(stream, topology), from_start, where, count, as_json))


async def _follow(stream: Stream, from_start: bool, where: str | None, count: int | None, as_json: bool) -> None:
    left = count
    async with reached_mesh(settings()) as mesh:
        async for record in _records(mesh, stream, BEGINNING if from_start else now()):
            if not _is_wanted(record, where):
                continue
            _print(record, as_json=as_json)
            left = None if left is None else left - 1
            if left == 0:
                return


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


def _is_wanted(record: Record, where: str | None) -> bool:
    return record.event_type != TickPassed.event_type if where is None else fnmatchcase(record.event_type, where)


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
    streams = {**load_topology(file).streams, **{stream.name: stream for stream in OPERATION_STREAMS}}
    if name not in streams:
        msg = f"found stream {name!r}, expected one of {', '.join(streams)}"
        raise UsageError(msg)
    return streams[name]


def _refuse_unknown_type(where: str) -> None:
    known = [payload.event_type for payload in registered()]
    if not any(fnmatchcase(event_type, where) for event_type in known):
        msg = f"found --where {where!r}, expected one of {', '.join(known)}, or a part with *"
        raise UsageError(msg)
