"""``aiops bench recovery``: kill -9 of one of two workers, under load; how long, and was anything lost or counted twice?

How long does it take when a worker comes or goes, and when there is very much to restore?
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pipeline.bench import handover, restore
from pipeline.bench.load import send_at_rate
from pipeline.bench.oracle import WrongResultError, miscounted, outcome_of
from pipeline.bench.rig import Rig, Said, embedded_server, rig
from pipeline.bench.workload import Workload

EVENTS, QUICK_EVENTS = 60_000, 6_000
ROUNDS, QUICK_ROUNDS = 3, 1
LEASE_S, QUICK_LEASE_S = 5.0, 1.0
_KEYS = 100
_BEFORE_S = 1.0
_AFTER_S = 2.5
"""How long the load goes on after the lease of the killed worker has run out."""

Tell = Callable[[str], None]


class Round(NamedTuple):
    """One kill.

    Attributes:
        moved: how many partitions the killed worker had.
        first_s: per moved partition, from the kill to the first output of its new owner.
    """

    moved: int
    first_s: list[float]
    events: int
    lost: int
    double: int
    out_of_order: int
    miscounted: int


async def measure(*, events: int, rounds: int, lease_s: float, keys: int, tell: Tell) -> dict[str, Any]:
    """Kill one of two workers so many times; let one come and go; then restore so many keys.

    Args:
        events: how many are sent per round, evenly, around the kill.

    Raises:
        WrongResultError: nobody took over what the killed worker had, or not all of it.
    """
    done = []
    with embedded_server() as (url, _):
        for number in range(rounds):
            async with rig(url, f"recovery{number}", partitions=Workload(1, 1).partitions, keys=_KEYS) as place:
                found = await _kill_one(place, events, lease_s)
            done.append(found)
            tell(
                f"round {number + 1} of {rounds}: {found.moved} partitions moved, the last after {max(found.first_s):.2f} s; "
                f"{found.lost} lost, {found.double} double"
            )
        handed_over = await handover.measure(url, events=events // 2, tell=tell)
        restored = await restore.measure(url, keys=keys, tell=tell)
    firsts = [first for each in done for first in each.first_s]
    return {
        "lease_s": lease_s,
        "rounds": rounds,
        "events": sum(each.events for each in done),
        "moved_partitions": sum(each.moved for each in done),
        "first_output_after_s": {"least": round(min(firsts), 2), "most": round(max(firsts), 2)},
        "within_lease_and_a_second": max(firsts) <= lease_s + 1,
        "lost": sum(each.lost for each in done),
        "double": sum(each.double + each.miscounted for each in done),
        "order_violations": sum(each.out_of_order for each in done),
        "handover": handed_over,
        "restore": restored,
    }


async def _kill_one(place: Rig, events: int, lease_s: float) -> Round:
    seconds = _BEFORE_S + lease_s + _AFTER_S
    samples = list(Workload(events, _KEYS).samples())
    async with place.workers("number", 2, lease_s=lease_s) as workers:
        sending = asyncio.create_task(send_at_rate(place.mesh, samples, len(samples) / seconds))
        await asyncio.sleep(_BEFORE_S)
        owners, doomed = await place.owners(), workers[0]
        doomed.kill()
        killed_ms = time.time() * 1000
        await sending
        await place.until_drained()
        said = await place.said()
    moved = [partition for partition, owner in enumerate(owners) if owner == doomed.name]
    outcome = outcome_of(samples, said)
    return Round(
        len(moved), _first_outputs_s(said, moved, killed_ms), len(samples), *outcome, miscounted=miscounted(said)
    )


def _first_outputs_s(said: Sequence[Said], partitions: Sequence[int], killed_ms: float) -> list[float]:
    first: dict[int, float] = {}
    for each in said:
        if each.at_ms > killed_ms:
            first.setdefault(each.partition, (each.at_ms - killed_ms) / 1000)
    silent = [partition for partition in partitions if partition not in first]
    if silent:
        msg = f"partitions {silent} of the killed worker said nothing more; nobody has taken them over"
        raise WrongResultError(msg)
    return [first[partition] for partition in partitions]
