"""A worker in a process of its own, to be killed and stalled.

    python -m tests.pipeline.engine.worker_process URL NAMESPACE NAME LEASE_S ASKED [--hang-after-answer]

Says "ready" when it owns something; on SIGTERM it stops and prints its counts as JSON.  ASKED is a file to which every
question is appended before it is answered.  With --hang-after-answer it says "recorded" after the first answer is
recorded, and hangs before it can commit.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.mesh import Lease
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import topology
from tests.polling import eventually


def say(something: str) -> None:
    sys.stdout.write(f"{something}\n")
    sys.stdout.flush()


class HangingMesh(RedisMesh):
    """Dies, as far as anybody can see, between an answer and the commit that uses it."""

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        await super().record_answer(lease, key, answer)
        say("recorded")
        while True:
            signal.pause()


async def main(url: str, namespace: str, name: str, lease_s: str, asked: str, *options: str) -> None:
    mesh = (HangingMesh if "--hang-after-answer" in options else RedisMesh).connect(url, namespace)

    async def answer(question: ExecuteAction) -> ExecutionReport:
        with Path(asked).open("a") as file:  # noqa: ASYNC230 - one line to a local file
            file.write(f"{question.idempotency_key}\n")
        return ExecutionReport(status="succeeded", detail=question.idempotency_key)

    worker = Worker(mesh, topology(), {ExecuteAction: answer}, name=name, lease_s=float(lease_s))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    running = asyncio.create_task(worker.run())
    await eventually(lambda: worker.owned or running.done(), saying="it owns something")
    say("ready")
    await running
    say(json.dumps(asdict(worker.counts)))
    await mesh.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
