"""``aiops recording``: what is in recordings, parts of them, and several as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.commands.moments import just_before
from pipeline.commands.output import counted, print_json
from pipeline.commands.wanted import Wanted, wanted_of
from pipeline.console.meter import Meter
from pipeline.engine.record import BEGINNING, Offset, Record
from pipeline.recordings.header import Header, unknown_types
from pipeline.recordings.merging import merged, merged_header
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import RecordingWriter, new_recording
from topology.errors import UsageError
from topology.event import Payload
from topology.moments import from_us
from topology.payloads.operation import AnswerRecorded, TickPassed
from topology.registry import payload_class

_DIGEST_SHOWN = 12
_ALWAYS = frozenset({TickPassed.event_type, AnswerRecorded.event_type})

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SALVAGE = click.option("--salvage", is_flag=True, help="Of a damaged recording take what comes before the damage.")
_OUT = click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to be written."
)
_FORCE = click.option("--force", is_flag=True, help="Replace the file if there is one.")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def recording() -> None:
    """Look into recordings, cut them, merge them.

    A recording that is cut off, changed, or something else is refused with the place and the reason.
    """


@recording.command("info")
@click.argument("file", type=_FILE)
@_SALVAGE
@_JSON
def info(file: Path, salvage: bool, as_json: bool) -> None:
    """Say what is in FILE, after all of it was read and checked."""
    found = Recording(file, salvage=salvage)
    streams, types = Counter[str](), Counter[str]()
    first_offset = last_offset = None
    with Meter("reading", None, _last_ms([found]), total=found.index.records if found.index else None) as meter:
        for record in found.records():
            meter.count(record)
            streams[record.stream] += 1
            types[record.event_type] += 1
            first_offset, last_offset = first_offset or record.offset, record.offset
    times = found.index.event_times() if found.index else None
    said = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "records": streams.total(),
        "first": str(first_offset) if first_offset else None,
        "last": str(last_offset) if last_offset else None,
        "happened_from": from_us(times[0]) if times else None,
        "happened_to": from_us(times[1]) if times else None,
        **found.header.model_dump(mode="json"),
        "counts": {name: streams[name] for name in found.header.streams},
        "types": dict(types.most_common()),
        "unknown": unknown_types(found.header, types),
        "damage": found.damage or None,
    }
    if as_json:
        print_json(said)
    else:
        for line in _lines(found.header, said):
            click.echo(line)


@recording.command("cut")
@click.argument("file", type=_FILE)
@_OUT
@click.option("--streams", help="Only these (comma-separated), and always answers.")
@click.option("--from", "since", metavar="TIME|DURATION|OFFSET", help="Begin there; a duration is from its beginning.")
@click.option("--to", "until", metavar="TIME|DURATION|OFFSET", help="End before it.")
@click.option("--where", metavar="TYPE|CONDITION", help="Only these events, as for tap; ticks and answers always.")
@_SALVAGE
@_FORCE
@_JSON
def cut(
    file: Path,
    out: Path,
    streams: str | None,
    since: str | None,
    until: str | None,
    where: str | None,
    salvage: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a part of FILE to a recording of its own; times are when events arrived, not when they happened.

    Event types that this release does not know are kept whatever --where says.
    """
    refuse_to_replace(out, force=force)
    found = Recording(file, salvage=salvage)
    beginning = found.index.first if found.index else next((each.offset for each in found.records()), BEGINNING)
    begin = None if since is None else just_before("--from", since, beginning=beginning)
    end = None if until is None else just_before("--to", until, beginning=beginning)
    names = chosen_names(streams, found.header.streams)
    header = found.header.cut(names, begin, end, where)
    known = [payload_class(name) for name in found.header.schemas if found.header.is_known(name)]
    keep = filtered(where, known, header)
    records = (each for each in found.records(begin or BEGINNING, end) if each.stream in names and keep(each))
    meter = Meter("cutting", begin.ms if begin else None, end.ms if end else _last_ms([found]))
    _write(out, header, records, [found], meter, as_json=as_json)


@recording.command("merge")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@_OUT
@_SALVAGE
@_FORCE
@_JSON
def merge(files: tuple[Path, ...], out: Path, salvage: bool, force: bool, as_json: bool) -> None:
    """Write what is in FILES to one recording, in order; what is in several of them comes once.

    They must be recordings of one deployment: streams of the same key and partitions.
    """
    refuse_to_replace(out, force=force)
    found = [Recording(file, salvage=salvage) for file in files]
    _write(out, merged_header(found), merged(found), found, Meter("merging", None, _last_ms(found)), as_json=as_json)


def refuse_to_replace(out: Path, *, force: bool) -> None:
    """Raise ``UsageError`` when there is such a file already, and nobody said that it may go."""
    if out.exists() and not force:
        raise UsageError(
            f"found {out} there already, expected a new file; name another one, or replace it with --force"
        )


def chosen_names(streams: str | None, known: Iterable[str]) -> frozenset[str]:
    """The streams that ``--streams`` names, and the answers of the world; all without it.

    Raises:
        UsageError: there is no such stream.
    """
    names = frozenset(known)
    if streams is None:
        return names
    asked = frozenset(name.strip() for name in streams.split(","))
    if asked - names:
        unknown = ", ".join(sorted(asked - names))
        raise UsageError(f"found --streams with {unknown}, expected some of {', '.join(sorted(names))}")
    return asked | (names & {"answers"})


def filtered(where: str | None, carried: Iterable[type[Payload]], header: Header) -> Wanted:
    """What a recording keeps: what is asked for, what a replay cannot do without, and what nobody here can judge."""
    if where is None:
        return lambda record: True
    is_wanted = wanted_of(where, carried)
    return lambda record: record.event_type in _ALWAYS or not header.is_known(record.event_type) or is_wanted(record)


def report_of(out: Path, header: Header, writer: RecordingWriter, damage: Sequence[str] = ()) -> dict[str, Any]:
    """What was written, as JSON data."""
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "records": writer.streams.total(),
        "counts": {name: writer.streams[name] for name in header.streams},
        "unknown": unknown_types(header, writer.types),
        "damage": list(damage),
    }


def print_report(report: dict[str, Any], *, as_json: bool) -> None:
    """Say what was written, and what a person should know of it."""
    for damage in report["damage"]:
        click.echo(f"aiops: salvaged: {damage}", err=True)
    if as_json:
        print_json(report)
        return
    for name, count in report["unknown"].items():
        click.echo(f"aiops: {counted(count, 'event')} of the unknown type {name!r} kept", err=True)
    said = {name: count for name, count in report["counts"].items() if count}
    click.echo(f"{report['file']}: {counted(report['records'], 'event')}, {report['bytes']:,} bytes")
    click.echo("  " + (", ".join(f"{name} {count:,}" for name, count in said.items()) or "no stream said anything"))


def _write(
    out: Path, header: Header, records: Iterator[Record], found: Sequence[Recording], meter: Meter, *, as_json: bool
) -> None:
    with meter, new_recording(out, header) as writer:
        for record in records:
            meter.count(record)
            writer.add(record)
    report = report_of(out, header, writer, [each.damage for each in found if each.damage])
    print_report(report, as_json=as_json)


def _last_ms(found: Iterable[Recording]) -> int:
    """When the last record of all of them arrived, as far as is known."""
    return max((each.index.last.ms for each in found if each.index), default=0)


def _lines(header: Header, said: dict[str, Any]) -> Iterator[str]:
    state = f"damaged: {said['damage']}" if said["damage"] else "whole"
    yield f"{said['file']}: {counted(said['records'], 'event')}, {said['bytes']:,} bytes, {state}"
    for part in header.parts:
        span = f"{_moment(part.since, 'its beginning')} to {_moment(part.until, 'its end')}"
        yield f"  recorded   {part.recorded_at.astimezone():%Y-%m-%d %H:%M:%S} of topology {part.topology} ({part.digest[:_DIGEST_SHOWN]})"
        yield f"             {span}{''.join(f', where {each}' for each in part.filters)}"
    if said["first"]:
        first, last = Offset.parse(said["first"]), Offset.parse(said["last"])
        yield f"  arrived    {_moment(first, '')} to {_moment(last, '')} ({first} to {last})"
    if said["happened_from"]:
        yield f"  happened   {_shown(said['happened_from'])} to {_shown(said['happened_to'])}"
    for name, stream in header.streams.items():
        yield f"  stream     {name:<16} {said['counts'][name]:>12,}   {counted(stream.partitions, 'partition')} by {stream.key}"
    for name, count in said["types"].items():
        version = header.schemas.get(name)
        note = "   unknown to this release, kept as it is" if name in said["unknown"] else ""
        yield f"  type       {name:<24} {count:>12,}   {f'version {version}' if version else 'of no version'}{note}"


def _moment(offset: Offset | None, otherwise: str) -> str:
    return otherwise if offset is None else _shown(datetime.fromtimestamp(offset.ms / 1000, UTC))


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
