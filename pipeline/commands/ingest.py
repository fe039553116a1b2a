"""``aiops ingest``: foreign payloads become our events, printed or published."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from pipeline.commands.output import print_json, print_json_line
from pipeline.commands.reach import reached_mesh
from pipeline.engine.pressure import LOOK_S, BackPressure, StreamFullError
from pipeline.engine.publisher import Publisher
from pipeline.loading import load_topology
from pipeline.security.masking import mask_event
from pipeline.settings import settings
from pipeline.sources.formats import FORMATS, Reception
from topology.check import SOURCES_WRITE
from topology.codec import encode
from topology.errors import ConfigurationError
from topology.event import Event, Payload

(_INTAKE,) = SOURCES_WRITE
_AT_ONCE = 500


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(sorted(FORMATS)))
@click.argument("file", type=click.File("rb"))
@click.option("--publish", is_flag=True, help="Put the events on the intake, and report how many were new.")
@click.option("--source", default="ingest", show_default=True, help="Who says so, where the format does not tell.")
@click.option("--topology", type=click.Path(path_type=Path), help="With --publish: whose intake; shipped by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the report of --publish as JSON; events always are.")
def ingest(
    form: str, file: BinaryIO, publish: bool, source: str, topology: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Turn FILE (- is standard input) of a foreign FORMAT into our events, one JSON line each.

    FORMAT is alertmanager, cloudevents or events (our own envelope). One bad item refuses the whole file. Secrets and
    personal data are masked, as they are at the door.
    """
    reception = Reception(at=datetime.now(UTC), source=source)
    events = [mask_event(event) for event in FORMATS[form](file.read(), reception)]
    if not publish:
        for event in events:
            print_json_line(encode(event))
        return
    new = asyncio.run(_publish(events, topology))
    if as_json:
        print_json({"accepted": new, "duplicates": len(events) - new})
    else:
        click.echo(f"accepted {new}, duplicates {len(events) - new}")


async def _publish(events: Sequence[Event[Payload]], file: Path | None) -> int:
    graph = load_topology(file)
    stream = graph.streams.get(_INTAKE)
    if stream is None:
        msg = f"found a topology without the stream {_INTAKE!r}, expected it: sources publish to it"
        raise ConfigurationError(msg)
    async with reached_mesh(settings()) as mesh:
        publisher = Publisher(mesh, stream, BackPressure(mesh, graph, {_INTAKE}))
        parts = [events[at : at + _AT_ONCE] for at in range(0, len(events), _AT_ONCE)]
        return sum([await _when_there_is_room(publisher, part) for part in parts])


async def _when_there_is_room(publisher: Publisher, events: Sequence[Event[Payload]]) -> int:
    told = False
    while True:
        try:
            return await publisher(events)
        except StreamFullError as full:
            if not told:
                click.echo(f"aiops: {full}; waiting until there is room", err=True)
            told = True
            await asyncio.sleep(LOOK_S)
