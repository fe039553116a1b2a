"""``aiops worker``: some stages, beside other workers of the same deployment."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.assembly import deployed, servers
from pipeline.loading import load_topology
from pipeline.settings import Settings, settings


@click.command("worker")
@click.option("--topology", type=click.Path(path_type=Path), help="Topology file; the one that ships by default.")
@click.option("--stages", help="Run only these stages (comma-separated ids); all by default.")
def worker(topology: Path | None, stages: str | None) -> None:
    """Run stages until stopped; several workers share the partitions."""
    sys.exit(asyncio.run(_work(topology, tuple(stages.split(",")) if stages else None, settings())))


async def _work(path: Path | None, stages: tuple[str, ...] | None, chosen: Settings) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    topology = load_topology(path)

    def say(line: str) -> None:
        click.echo(line, err=True)

    async with servers(chosen, say) as addresses, deployed(chosen, topology, addresses, stages=stages) as deployment:
        say(f"worker {chosen.worker_name} runs {len(topology.stages) if stages is None else len(stages)} stages")
        stopped: asyncio.Future[Any] = asyncio.create_task(stopping.wait())
        await asyncio.wait({stopped, deployment.failure}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if deployment.failure.done():
            await deployment.failure
    return 0
