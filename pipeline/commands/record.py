"""``aiops record``: what the streams said, as one portable file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from pipeline.archive.folder import Archive
from pipeline.commands.moments import just_before
from pipeline.commands.reach import reached_mesh
from pipeline.commands.recording import chosen_names, filtered, print_report, refuse_to_replace, report_of
from pipeline.commands.wanted import Wanted
from pipeline.console.meter import Meter
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Offset
from pipeline.loading import load_agent, read_topology
from pipeline.recordings.gathering import gathered
from pipeline.recordings.header import Header, Part
from pipeline.recordings.writer import RecordingWriter, new_recording
from pipeline.settings import settings
from pipeline.tap import now
from topology.digest import topology_digest
from topology.errors import UsageError
from topology.graph import Stream
from topology.resolve import resolve


@click.command("record")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to be written.")
@click.option("--streams", help="Only these (comma-separated), and always answers; by default all.")
@click.option("--from", "since", metavar="TIME|DURATION|OFFSET", help="Begin there; by default with what is oldest.")
@click.option("--to", "until", metavar="TIME|DURATION|OFFSET", help="End before it; by default now.")
@click.option("--where", metavar="TYPE|CONDITION", help="Only these events, as for tap; ticks and answers always.")
@click.option("--topology", type=click.Path(path_type=Path), help="Whose streams; the shipped topology's by default.")
@click.option("--salvage", is_flag=True, help="Leave out what is damaged or missing in the archive.")
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def record(
    out: Path,
    streams: str | None,
    since: str | None,
    until: str | None,
    where: str | None,
    topology: Path | None,
    salvage: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write what streams said, out of the archive and the mesh, to one portable file.

    Events are in it as they are stored: masked at the door. The answers of the world are always recorded, so that a
    replay need ask nobody. Times are when events arrived. Nothing live is held up.
    """
    refuse_to_replace(out, force=force)
    parsed = read_topology(topology)
    declared = resolve(parsed, load_agent).streams.values()
    known = {stream.name: stream for stream in (*declared, *OPERATION_STREAMS) if stream.stored}
    names = chosen_names(streams, known)
    chosen = [stream for name, stream in known.items() if name in names]
    span = _span(since, until)
    part = Part(
        recorded_at=datetime.now(UTC),
        topology=parsed.spec.name,
        digest=topology_digest(parsed.spec),
        filters=(where,) if where else (),
    )
    header = Header.of(chosen, part)
    keep = filtered(where, {payload for stream in chosen for payload in stream.carries}, header)
    writer = asyncio.run(_record(out, header, chosen, span, keep, salvage=salvage))
    print_report(report_of(out, header, writer), as_json=as_json)


async def _record(
    out: Path,
    header: Header,
    streams: Sequence[Stream],
    span: tuple[Offset | None, Offset | None],
    keep: Wanted,
    *,
    salvage: bool,
) -> RecordingWriter:
    archive = Archive(settings().archive_folder)
    since, until = span
    async with reached_mesh(settings()) as mesh:
        # Never later than now: what one stream said while another was read would be without its cause or its effect.
        present = await mesh.past()
        end = present if until is None else min(until, present)
        said = header.cut(header.streams, since, end, None)
        with (
            Meter("recording", None if since is None else since.ms, end.ms) as meter,
            new_recording(out, said) as writer,
        ):
            async for each in gathered(mesh, archive, streams, since or BEGINNING, end, salvage=salvage):
                meter.count(each)
                if keep(each):
                    writer.add(each)
    return writer


def _span(since: str | None, until: str | None) -> tuple[Offset | None, Offset | None]:
    """After which offset a recording begins, and with which it ends; None for the oldest there is, and for now."""
    present = now()
    begin = None if since is None else just_before("--from", since)
    end = None if until is None else just_before("--to", until)
    if end is not None and end > present:
        msg = f"found --to {until}, which is yet to come, expected a moment that has passed; leave it out to record up to now"
        raise UsageError(msg)
    if begin is not None and begin >= (end or present):
        msg = f"found --from {since} and --to {until or 'now'}, expected the first to be earlier"
        raise UsageError(msg)
    return begin, end
