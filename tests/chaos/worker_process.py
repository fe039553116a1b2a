"""A worker in a process of its own, to be killed, stalled and cut off.

    python -m tests.chaos.worker_process URL NAMESPACE NAME LEASE_S [DATABASE_URL]

Supervised as in production.  Says what it has done as lines of JSON, whenever that changes.  With a database it also
feeds the knowledge sink.  On SIGTERM it gives everything back and ends; when the server lost writes it says so and ends
with code 3, for somebody must decide.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.mesh import LostWritesError
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.sink_runner import SinkRunner
from pipeline.engine.supervision import Routine
from pipeline.engine.worker import Worker
from pipeline.knowledge.connections import open_pool
from pipeline.sinks.postgres import KnowledgeSink
from tables.embedding import PROVIDER, embed
from tests.chaos.loop_under_test import topology

LOST_WRITES = 3
_SAY_EVERY_S = 0.1


async def answer(question: ExecuteAction) -> ExecutionReport:
    """The world takes a moment, and its answer depends on the question alone."""
    await asyncio.sleep(random.random() * 0.02)
    return ExecutionReport(status="succeeded", detail=question.idempotency_key)


async def main(url: str, namespace: str, name: str, lease_s: str, database_url: str = "") -> int:
    """Work until told to stop."""
    graph = topology()
    over = asyncio.Event()
    lost: list[BaseException] = []

    def give_up(error: BaseException) -> None:
        lost.append(error)
        over.set()

    async with AsyncExitStack() as stack:
        mesh = RedisMesh.connect(url, namespace)
        stack.push_async_callback(mesh.close)
        worker = Worker(mesh, graph, {ExecuteAction: answer}, name=name, lease_s=float(lease_s))
        routines = [Routine("worker", worker.run, fatal=(LostWritesError,), on_fatal=give_up, stop=worker.stop)]
        if database_url:
            pool = await open_pool(database_url)
            stack.callback(pool.terminate)
            sink = KnowledgeSink(pool, embed=embed, provider=PROVIDER, write_within_s=5)
            streams = [graph.streams["incidents"]]
            runner = SinkRunner(mesh, "knowledge", sink, streams, name=name, lease_s=float(lease_s))
            routines.append(Routine("sink", runner.run, fatal=(LostWritesError,), on_fatal=give_up))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        for routine in routines:
            await routine.start()
        await _tell(worker, routines, over)
        for routine in reversed(routines):
            await routine.stop()
        say(worker, routines, lost)
    return LOST_WRITES if lost else 0


async def _tell(worker: Worker, routines: list[Routine], over: asyncio.Event) -> None:
    said = ""
    while not over.is_set():
        now = _status(worker, routines)
        if now != said:
            said = now
            sys.stdout.write(f"{said}\n")
            sys.stdout.flush()
        try:
            await asyncio.wait_for(over.wait(), _SAY_EVERY_S)
        except TimeoutError:
            continue


def say(worker: Worker, routines: list[Routine], lost: list[BaseException]) -> None:
    """The last line."""
    sys.stdout.write(f"{_status(worker, routines, lost)}\n")
    sys.stdout.flush()


def _status(worker: Worker, routines: list[Routine], lost: list[BaseException] | None = None) -> str:
    said = {
        **asdict(worker.counts),
        "owned": len(worker.owned),
        "restarts": sum(routine.restarts for routine in routines),
        "trouble": "; ".join(routine.trouble for routine in routines if routine.trouble),
        "halted": [*worker.halted.values()],
    }
    if lost:
        said["lost_writes"] = str(lost[0])
    return json.dumps(said)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
