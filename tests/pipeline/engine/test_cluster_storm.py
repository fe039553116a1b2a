"""Workers and nodes of a Redis Cluster killed, workers stalled and slots moved, all while events flow."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import line
from tests.fixtures.redis_cluster import ClusterOfNodes
from tests.pipeline.engine.on_cluster import (
    SLOTS,
    connected,
    done_by_now,
    move_slot,
    nothing_lost_nothing_double,
    taken,
)
from tests.polling import eventually

pytestmark = [pytest.mark.servers, pytest.mark.long]

LEASE_S = 1.0
FAULTS = ("kill worker",) * 8 + ("stall worker",) * 4 + ("move slot",) * 6 + ("kill node",) * 2
LINES_BETWEEN_FAULTS = 800


class Workers:
    """Two processes, one of which may be away for a moment."""

    def __init__(self, url: str, started: ExitStack) -> None:
        self._url = url
        self._number = 0
        self._processes = [self._start(), self._start()]
        started.callback(self._end)

    def kill(self, which: int) -> None:
        """End one as a crash does, and start another."""
        self._processes[which].kill()
        self._processes[which].wait()
        self._processes[which] = self._start()

    async def stall(self, which: int) -> None:
        """Let one sleep until it has lost its leases."""
        self._processes[which].send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE_S)
        self._processes[which].send_signal(signal.SIGCONT)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self._number += 1
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.pipeline.engine.cluster_process",
                self._url,
                f"w{self._number}",
                str(LEASE_S),
            ],
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
async def source(own_cluster: ClusterOfNodes) -> AsyncIterator[RedisMesh]:
    async with connected(own_cluster.url, "t") as mesh:
        yield mesh


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_nor_repeated_on_a_cluster_whatever_dies(
    own_cluster: ClusterOfNodes, source: RedisMesh, seed: int
) -> None:
    chance = random.Random(seed)
    faults = chance.sample(FAULTS, len(FAULTS))
    lines = 0
    with ExitStack() as started:
        workers = Workers(own_cluster.url, started)
        for fault in faults:
            happening = asyncio.create_task(happen(fault, chance, own_cluster, workers))
            for _ in range(LINES_BETWEEN_FAULTS // 40):
                batch = [line(n, f"s{n % 40}", n) for n in range(lines, lines + 40)]
                await eventually(lambda batch=batch: taken(source, batch), saying="it is taken", within_s=30)  # type: ignore[misc]
                lines += 40
            await happening
        await eventually(lambda: done_by_now(source), saying="all is done", within_s=60)
    await nothing_lost_nothing_double(source, lines)
    assert Counter(faults).keys() == set(FAULTS)


async def happen(fault: str, chance: random.Random, cluster: ClusterOfNodes, workers: Workers) -> None:
    which = chance.randrange(2)
    if fault == "kill worker":
        await asyncio.to_thread(workers.kill, which)
    elif fault == "stall worker":
        await workers.stall(which)
    elif fault == "move slot":
        ports = [node.port for node in cluster.nodes]
        after = dict(zip(ports, [*cluster.nodes[1:], cluster.nodes[0]], strict=True))
        await asyncio.to_thread(move_slot, cluster, chance.choice(SLOTS), after)
    else:
        node = chance.choice(cluster.nodes)
        node.kill()
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(cluster.settle)
