"""``aiops worker``: some stages, beside other workers of the same deployment."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.assembly import deployed, servers
from pipeline.commands.chosen_stages import chosen_stages
from pipeline.commands.output import counted
from pipeline.loading import load_topology
from pipeline.settings import Settings, settings


@click.command("worker")
@click.option("--topology", type=click.Path(path_type=Path), help="Topology file; the one that ships by default.")
@click.option("--stages", help="Run only these stages (comma-separated ids); all by default.")
def worker(topology: Path | None, stages: str | None) -> None:
    """Run stages until stopped; several workers share the partitions."""
    sys.exit(asyncio.run(_work(topology, stages, settings())))


async def _work(path: Path | None, asked: str | None, chosen: Settings) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    topology = load_topology(path)
    stages = chosen_stages(asked, topology)

    def say(line: str) -> None:
        click.echo(line, err=True)

    async with servers(chosen, say) as addresses, deployed(chosen, topology, addresses, stages=stages) as deployment:
        say(f"worker {chosen.worker_name} runs {counted(len(stages), 'stage')}")
        stopped: asyncio.Future[Any] = asyncio.create_task(stopping.wait())
        await asyncio.wait({stopped, deployment.failure}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if deployment.failure.done():
            await deployment.failure
    return 0
