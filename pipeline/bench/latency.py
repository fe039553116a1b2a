"""``aiops bench latency``: from an event that is due to the committed output, at a part of what the machine can do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.bench.load import send_at_rate
from pipeline.bench.oracle import refuse_wrong_forwarding
from pipeline.bench.rig import embedded_server, rig
from pipeline.bench.workload import Workload

EVENTS, QUICK_EVENTS = 200_000, 10_000
SECONDS, QUICK_SECONDS = 12.0, 2.0
LOADS = (0.5, 0.8)
_KEYS = 100
_WARM_UP = 0.15
"""The first part of each measurement is left out."""

Tell = Callable[[str], None]


async def measure(*, events: int, seconds: float, tell: Tell) -> dict[str, Any]:
    """The capacity of one worker, then latencies at parts of it.

    Capacity is events per second of wall time while the generator, the server and the worker share the machine, from the
    first event sent to the last output committed.

    Raises:
        WrongResultError: an output is missing, doubled or out of order; there are no figures then.
    """
    with embedded_server() as (url, _):
        capacity = await _capacity(url, events)
        tell(f"capacity: {capacity:,.0f} events/s")
        loads = []
        for load in LOADS:
            found = await _latencies(url, load, capacity * load, seconds)
            loads.append(found)
            tell(f"at {load:.0%}: p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms")
    return {"capacity_events_per_s": round(capacity), "seconds": seconds, "loads": loads}


async def _capacity(url: str, events: int) -> float:
    workload = Workload(events, _KEYS)
    samples = list(workload.samples())
    async with (
        rig(url, "capacity", partitions=workload.partitions, keys=_KEYS) as place,
        place.workers("forward", 1),
    ):
        began_s = time.perf_counter()
        await place.publish(samples)
        await place.until_drained()
        took_s = time.perf_counter() - began_s
        refuse_wrong_forwarding(samples, await place.said())
    return len(samples) / took_s


async def _latencies(url: str, load: float, rate: float, seconds: float) -> dict[str, Any]:
    workload = Workload(int(rate * seconds), _KEYS)
    samples = list(workload.samples())
    async with (
        rig(url, "latency", partitions=workload.partitions, keys=_KEYS) as place,
        place.workers("forward", 1),
    ):
        sent = await send_at_rate(place.mesh, samples, rate)
        await place.until_drained()
        said = await place.said()
        refuse_wrong_forwarding(samples, said)
        added_ms = await place.input_times_ms()
    warm = {sample.id for sample in samples[int(len(samples) * _WARM_UP) :]}
    since_due = sorted(each.at_ms - sent.due_ms[each.cause] for each in said if each.cause in warm)
    since_added = sorted(each.at_ms - added_ms[each.cause] for each in said if each.cause in warm)
    return {
        "load": load,
        "events_per_s": round(rate),
        "p50_ms": percentile(since_due, 0.50),
        "p90_ms": percentile(since_due, 0.90),
        "p99_ms": percentile(since_due, 0.99),
        "most_ms": percentile(since_due, 1.0),
        "p50_from_xadd_ms": percentile(since_added, 0.50),
        "p99_from_xadd_ms": percentile(since_added, 0.99),
    }


def percentile(ordered: Sequence[float], part: float) -> float:
    """The least value that so great a part of the values does not exceed."""
    return round(max(0.0, ordered[max(0, math.ceil(len(ordered) * part) - 1)]), 1)
