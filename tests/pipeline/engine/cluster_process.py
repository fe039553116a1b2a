"""A worker with its forwarder in a process of its own, on a cluster, to be killed and stalled.

python -m tests.pipeline.engine.cluster_process URL NAME LEASE_S
"""

from __future__ import annotations

import asyncio
import sys

from agents.ports import ExecuteAction
from pipeline.engine.forwarder import Forwarder
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import Echo
from tests.pipeline.engine.on_cluster import GRAPH, persistent


async def main(url: str, name: str, lease_s: str) -> None:
    mesh = RedisMesh.connect(url, "t")
    worker = Worker(mesh, GRAPH, {ExecuteAction: Echo()}, name=name, lease_s=float(lease_s))
    async with persistent(worker), persistent(Forwarder(mesh, GRAPH, name=name, lease_s=float(lease_s))):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
