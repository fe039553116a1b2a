"""``aiops top``: what every stage takes, gives and has still to do, and who does it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline.commands.output import print_json
from pipeline.commands.reach import reached_mesh
from pipeline.console.overview import Overseer, Overview, PartitionLine, StageLine
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.loading import load_topology
from pipeline.settings import settings
from topology.graph import Topology

_WIDTH_OF_A_FILE = 160
_LINES_BESIDE_THE_TABLE = 4

Show = Callable[[Overview], None]


@click.command()
@click.option("--once", is_flag=True, help="Show it once, with the rates of one interval, and end.")
@click.option("--partitions", is_flag=True, help="A line per partition of each stage, not only per stage.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--topology", type=click.Path(path_type=Path), help="Whose stages; the shipped topology's by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per look.")
def top(once: bool, partitions: bool, interval: float, topology: Path | None, as_json: bool) -> None:
    """Show per stage what comes in and goes out, its lag, late entries, open dead letters, and who works on it.

    Evicted are keys that tables dropped: for lack of room (yellow), or because their time was over.
    A partition is restoring, stalled (restarted, and has not moved since), halted (waits for a person) or unowned. The lag
    is the one XINFO GROUPS shows in any Redis tool. This only reads, and works from any machine that reaches the server.
    """
    graph = load_topology(topology)
    with ExitStack() as stack:
        show = _printer(partitions) if as_json else _screen(stack, partitions, live=not once)
        asyncio.run(_follow(graph, interval, show, once=once))


async def _follow(topology: Topology, interval_s: float, show: Show, *, once: bool) -> None:
    told_of_outage = False
    async with reached_mesh(settings()) as mesh:
        overseer = Overseer(mesh, topology)
        while True:
            try:
                overview = await overseer.look()
                told_of_outage = False
                if overview.over_s is not None or not once:
                    show(overview)
                    if once:
                        return
            except MeshUnavailableError as error:
                if once:
                    raise
                if not told_of_outage:
                    click.echo(f"aiops: {error}; trying again until it is back", err=True)
                told_of_outage = True
            await asyncio.sleep(interval_s)


def _screen(stack: ExitStack, partitions: bool, *, live: bool) -> Show:
    """A table that is redrawn in place on a terminal, one table after the other anywhere else."""
    from rich.console import Console
    from rich.live import Live

    from pipeline.console.top_table import partitions_table, stages_table

    console = Console(file=sys.stdout)
    on_screen = live and console.is_terminal
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    shown = stack.enter_context(Live(console=console, auto_refresh=False, screen=False)) if on_screen else None

    def show(overview: Overview) -> None:
        table = stages_table(overview)
        if partitions:
            room = console.height - _LINES_BESIDE_THE_TABLE - len(overview.workers)
            table = partitions_table(overview, max(1, room) if shown is not None else None)
        if shown is not None:
            shown.update(table, refresh=True)
        else:
            console.print(table)

    return show


def _printer(partitions: bool) -> Show:
    return lambda overview: print_json(_as_json(overview, partitions))


def _as_json(overview: Overview, partitions: bool) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC),
        "over_s": overview.over_s,
        "stages": [_stage_as_json(stage, partitions) for stage in overview.stages],
        "workers": [
            {"worker": line.worker, "partitions": line.partitions, "troubles": list(line.troubles)}
            for line in overview.workers
        ],
    }


def _stage_as_json(stage: StageLine, partitions: bool) -> dict[str, Any]:
    said = {
        "stage": stage.stage,
        "following": list(stage.following),
        **_numbers(stage),
        "partitions": len(stage.partitions),
        "states": dict(stage.states),
        "owners": dict(stage.owners),
    }
    if partitions:
        said["by_partition"] = [_partition_as_json(line) for line in stage.partitions]
    return said


def _partition_as_json(line: PartitionLine) -> dict[str, Any]:
    return {
        "partition": line.partition,
        **_numbers(line),
        "owner": line.owner,
        "state": line.state,
        "why": line.why,
        "inputs": [{"stream": stream, "partition": number, "lag": lag} for (stream, number), lag in line.lags],
    }


def _numbers(line: StageLine | PartitionLine) -> dict[str, Any]:
    return {
        "in_per_s": line.in_per_s,
        "out_per_s": line.out_per_s,
        "lag": line.lag,
        "late": line.late,
        "evicted": line.evicted,
        "dead_letters": line.dead_letters,
    }
