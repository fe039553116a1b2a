"""``aiops replay``: a recording through a topology, in virtual time and without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.commands.moments import just_before
from pipeline.commands.output import counted, print_json
from pipeline.commands.recording import chosen_names, refuse_to_replace
from pipeline.console.meter import Meter
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import BEGINNING, Record
from pipeline.loading import load_agent, read_topology
from pipeline.recordings.header import Header, Part, unknown_types
from pipeline.recordings.reader import Recording
from pipeline.recordings.writer import new_recording
from pipeline.replay.answers import RecordedAnswers
from pipeline.replay.player import Replay
from pipeline.replay.timetable import Timetable
from topology.digest import topology_digest
from topology.resolve import resolve


@click.command("replay")
@click.argument("recording", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--topology", type=click.Path(path_type=Path), help="What it is played through; by default what ships.")
@click.option("--from", "since", metavar="TIME|DURATION|OFFSET", help="Begin there; a duration is from its beginning.")
@click.option("--to", "until", metavar="TIME|DURATION|OFFSET", help="End before it.")
@click.option("--streams", help="Only what these said (comma-separated); by default all that the recording has.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all that is said to a recording.")
@click.option("--salvage", is_flag=True, help="Of a damaged recording take what comes before the damage.")
@click.option("--force", is_flag=True, help="Replace the file of --out if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(
    recording: Path,
    topology: Path | None,
    since: str | None,
    until: str | None,
    streams: str | None,
    out: Path | None,
    salvage: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Play what sources said in RECORDING through a topology, from nothing remembered, as fast as it goes.

    Events, ticks and people's words are put on their streams as they were recorded, and stages conclude what they conclude.
    Nobody is asked and nothing is done: the world answers as it did, and an event with a question that has no recorded
    answer becomes a dead letter. Nothing live is touched.
    """
    if out is not None:
        refuse_to_replace(out, force=force)
    found = Recording(recording, salvage=salvage)
    beginning = found.index.first if found.index else next((each.offset for each in found.records()), BEGINNING)
    begin = None if since is None else just_before("--from", since, beginning=beginning)
    end = None if until is None else just_before("--to", until, beginning=beginning)
    names = chosen_names(streams, found.header.streams)
    parsed = read_topology(topology)
    graph = resolve(parsed, load_agent)
    answers = RecordedAnswers(found)
    timetable = Timetable(graph, found.header, answers.ticking, names)
    part = Part(
        recorded_at=datetime.now(UTC),
        topology=parsed.spec.name,
        digest=topology_digest(parsed.spec),
        since=begin,
        until=end,
    )
    header = Header.of((*graph.stored, *OPERATION_STREAMS), part)
    last_ms = end.ms if end else found.index.last.ms if found.index else 0
    with ExitStack() as stack:
        said: Callable[[Record], None] | None = None
        if out is not None:
            said = stack.enter_context(new_recording(out, header)).add
        meter = stack.enter_context(Meter("replaying", begin.ms if begin else None, last_ms))
        played = Replay(graph, timetable, answers, said)

        def records() -> Iterator[Record]:
            for record in found.records(begin or BEGINNING, end):
                meter.count(record)
                yield record

        counts = asyncio.run(played.play(records()))
    report = {
        "recording": str(recording),
        "topology": parsed.spec.name,
        "streams_not_in_topology": sorted(set(found.header.streams) & names - set(header.streams)),
        **counts.as_json(),
        "as_recorded": counts.as_recorded,
        "answers": {
            "recorded": answers.given,
            "missing": [
                {"stage": stage, "question": asked, "count": count}
                for (stage, asked), count in sorted(answers.missing.items())
            ],
        },
        "unknown": unknown_types(found.header, counts.types),
        "out": str(out) if out else None,
        "damage": found.damage or None,
    }
    if as_json:
        print_json(report)
    else:
        for line in _lines(report):
            click.echo(line)


def _lines(report: dict[str, Any]) -> Iterator[str]:
    fed, said = report["fed"], report["conclusions"]
    yield f"{report['recording']} through {report['topology']}: {counted(sum(fed.values()), 'event')} put on their streams"
    if report["damage"]:
        yield f"  salvaged     {report['damage']}"
    if report["streams_not_in_topology"]:
        yield f"  left out     {', '.join(report['streams_not_in_topology'])}: the topology has no such stream"
    for name, count in report["unknown"].items():
        yield f"  unknown      {counted(count, 'event')} of type {name}, which no stage can read"
    width = max(5, *map(len, report["stages"]))
    yield f"  {'stage':<{width}} {'in':>12} {'out':>12} {'late':>8} {'dead letters':>13}"
    for name, counts in report["stages"].items():
        figures = f"{counts['read']:>12,} {counts['put_out']:>12,} {counts['late']:>8,} {counts['dead_letters']:>13,}"
        yield f"  {name:<{width}} {figures}"
    yield (
        f"  conclusions  {said['again']:,} as recorded, {said['different']:,} with another content, "
        f"{said['missing']:,} missing, {said['new']:,} new"
    )
    yield f"  the world    {counted(report['answers']['recorded'], 'question')} answered as recorded"
    for each in report["answers"]["missing"]:
        yield (
            f"  no answer    {each['question']} of {each['stage']}, {counted(each['count'], 'time')}: "
            f"the recording has none; the events are dead letters unless the stage goes on without"
        )
    if report["out"]:
        yield f"  written to   {report['out']}"
