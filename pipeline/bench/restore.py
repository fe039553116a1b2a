"""A part of ``aiops bench recovery``: a partition with very many keys comes to a worker that is busy with another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from pipeline.bench.load import send_at_rate
from pipeline.bench.oracle import WrongResultError
from pipeline.bench.processes import usage_of
from pipeline.bench.rig import Rig, Said, rig
from pipeline.bench.stages import OUTPUT, STAGE
from pipeline.bench.workload import Workload
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Commit

KEYS, QUICK_KEYS = 1_000_000, 20_000
_LARGE, _OTHER = 0, 1
"""Partitions: the one with the keys, and the one that should notice nothing."""
_RATE = 200
_SECONDS_MAX = 120
_ROWS_PER_COMMIT = 10_000
_PAUSE_S = 0.005

Tell = Callable[[str], None]


async def measure(url: str, *, keys: int, tell: Tell) -> dict[str, Any]:
    """Restore so many keys while another partition's events go on, and look at what became of both.

    Raises:
        WrongResultError: a key was not restored as it had been left.
    """
    samples = list(Workload(2 * _RATE * _SECONDS_MAX, 100, partitions=2).samples())
    known = next(sample for sample in samples if sample.partition == _LARGE)
    others = [sample for sample in samples if sample.partition == _OTHER]
    async with rig(url, "restore", partitions=2, keys=100) as place:
        await leave_behind(place.mesh, STAGE, _LARGE, "seen", [known.service, *(f"{n:09}" for n in range(keys - 1))])
        await place.publish([known])
        restored = asyncio.Event()
        with place.worker("number", "worker-1") as worker:
            sending = asyncio.create_task(send_at_rate(place.mesh, others, _RATE, until=restored.is_set))
            await worker.until_running()
            claimed_ms = await _claimed_ms(place)
            large = await _first_said(place)
            restored.set()
            await sending
            await place.until_drained()
            memory_mb = usage_of([worker.pid]).rss_bytes / 1e6
        if large.value != 2:
            msg = f"{large.service} was seen once before and once now, but the worker says {large.value} times"
            raise WrongResultError(msg)
        pause_ms = await _longest_pause_ms(place, large)
    seconds = (large.at_ms - claimed_ms) / 1000
    tell(f"{keys:,} keys restored in {seconds:.1f} s; the other partition waited {pause_ms:.0f} ms at most")
    return {
        "keys": keys,
        "seconds": round(seconds, 2),
        "rows_per_s": round(keys / seconds),
        "longest_pause_of_another_partition_ms": round(pause_ms),
        "worker_memory_mb": round(memory_mb),
    }


async def leave_behind(mesh: Mesh, stage: str, partition: int, table: str, keys: list[str]) -> None:
    """Commit what a stage would have that has counted one event of each key in a table without windows."""
    lease = await mesh.claim(stage, partition, "before", 60.0)
    if lease is None:
        msg = f"{stage}/{partition} has an owner already"
        raise WrongResultError(msg)
    for first in range(0, len(keys), _ROWS_PER_COMMIT):
        rows: dict[str, bytes | None] = {f"{table}/{key}": b"0 1" for key in keys[first : first + _ROWS_PER_COMMIT]}
        [fenced] = await mesh.commit([(lease, Commit(stage, partition, {}, state=rows))])
        if fenced is not None:
            raise fenced
    await mesh.release(lease)


async def _claimed_ms(place: Rig) -> float:
    give_up_at = time.monotonic() + _SECONDS_MAX
    while not (await place.owners())[_LARGE]:
        await _pause(give_up_at, "claimed the partition")
    return time.time() * 1000


async def _first_said(place: Rig) -> Said:
    """What the worker says of the large partition as soon as it has everything."""
    give_up_at = time.monotonic() + _SECONDS_MAX
    while not await place.mesh.read({(OUTPUT, _LARGE): BEGINNING}, count=1, wait_s=1.0):
        await _pause(give_up_at, "worked on the partition")
    return next(each for each in await place.said() if each.partition == _LARGE)


async def _pause(give_up_at: float, awaited: str) -> None:
    if time.monotonic() > give_up_at:
        msg = f"nobody {awaited} within {_SECONDS_MAX} s"
        raise WrongResultError(msg)
    await asyncio.sleep(_PAUSE_S)


async def _longest_pause_ms(place: Rig, large: Said) -> float:
    """How long an event of the other partition waited at most, from when that partition ran until the large one did."""
    sent_ms = await place.input_times_ms()
    others = [each for each in await place.said() if each.partition == _OTHER]
    running_ms = min(each.at_ms for each in others)
    meanwhile = [each for each in others if running_ms <= sent_ms[each.cause] <= large.at_ms]
    return max((each.at_ms - sent_ms[each.cause] for each in meanwhile), default=0.0)
