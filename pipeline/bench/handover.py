"""Part of ``aiops bench recovery``: a third worker comes and goes under load; how long, and was anything lost or counted twice?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from pipeline.bench.load import send_at_rate
from pipeline.bench.oracle import WrongResultError, miscounted, outcome_of
from pipeline.bench.rig import Rig, Said, rig
from pipeline.bench.workload import Workload

_PARTITIONS = 32
_KEYS = 512
_SECONDS = 4.0
"""How long the load lasts: the third worker loads its modules, joins and leaves meanwhile."""
_BEFORE_S = 0.5
_WITHIN_S = 30.0
_MOVED_WITHIN_S = 3.0

Tell = Callable[[str], None]


async def measure(url: str, *, events: int, tell: Tell) -> dict[str, Any]:
    """Let a worker join two others, and leave them again.

    Args:
        events: how many are sent meanwhile, evenly.

    Raises:
        WrongResultError: the partitions did not move.
    """
    samples = list(Workload(events, _KEYS, partitions=_PARTITIONS).samples())
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(rig(url, "handover", partitions=_PARTITIONS, keys=_KEYS))
        await stack.enter_async_context(place.workers("number", 2))
        sending = asyncio.create_task(send_at_rate(place.mesh, samples, len(samples) / _SECONDS))
        await asyncio.sleep(_BEFORE_S)
        third = stack.enter_context(place.worker("number", "worker-3"))
        await third.until_running()
        joined_s = await _until_owned_evenly(place, 3)
        stopping = asyncio.create_task(third.stop())
        left_s = await _until_owned_evenly(place, 2)
        await stopping
        await sending
        await place.until_drained()
        said = await place.said()
    lost, double, out_of_order = outcome_of(samples, said)
    tell(f"a worker had its share {joined_s:.2f} s after it came, the others had it again {left_s:.2f} s after it went")
    return {
        "partitions": _PARTITIONS,
        "share_after_joining_s": round(joined_s, 2),
        "share_after_leaving_s": round(left_s, 2),
        "within_three_seconds": max(joined_s, left_s) <= _MOVED_WITHIN_S,
        "longest_silence_of_a_partition_s": round(_longest_silence_s(said), 2),
        "lost": lost,
        "double": double + miscounted(said),
        "order_violations": out_of_order,
    }


async def _until_owned_evenly(place: Rig, workers: int) -> float:
    began_s = time.monotonic()
    while True:
        loads = Counter(await place.owners())
        if "" not in loads and len(loads) == workers and max(loads.values()) - min(loads.values()) <= 1:
            return time.monotonic() - began_s
        if time.monotonic() - began_s > _WITHIN_S:
            msg = f"{workers} workers should share {place.partitions} partitions evenly, but have {dict(loads)}"
            raise WrongResultError(msg)


def _longest_silence_s(said: Sequence[Said]) -> float:
    last: dict[int, int] = {}
    longest_ms = 0
    for each in said:
        longest_ms = max(longest_ms, each.at_ms - last.get(each.partition, each.at_ms))
        last[each.partition] = each.at_ms
    return longest_ms / 1000
