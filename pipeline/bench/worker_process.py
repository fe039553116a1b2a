"""A worker in a process of its own, as ``aiops worker`` runs one, but without Postgres and with a stage of the bench.

    python -m pipeline.bench.worker_process URL NAMESPACE WORK KEYS PARTITIONS NAME LEASE_S

Says "running" and works until SIGTERM; then says its counts as JSON.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import asdict
from typing import cast

import orjson

from pipeline.bench.stages import Work, topology
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker


async def main(url: str, namespace: str, work: str, keys: str, partitions: str, name: str, lease_s: str) -> None:
    """Work until SIGTERM."""
    measured = topology(cast("Work", work), keys=int(keys), partitions=int(partitions))
    mesh = RedisMesh.connect(url, namespace)
    worker = Worker(mesh, measured, {}, name=name, lease_s=float(lease_s))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    _say(b"running")
    await worker.run()
    await mesh.close()
    _say(orjson.dumps(asdict(worker.counts)))


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
