"""Which worker owns which partition: computed by everybody from the list of live workers alone, so nobody decides it.

Rendezvous hashing with bounded loads.  Each worker has a rank for each partition, by hash.  A worker may have so many
partitions of a stage, and those with the highest ranks win; who is refused goes to the worker of its next rank.  So

- the partitions of each stage are spread evenly (numbers differ by at most one) over the workers that run it, and so is
  the sum, over workers that run the same stages; partitions that were given up may make a difference;
- a worker that comes or goes moves little more than its own share: 1.1 to 2.5 times as much, most when each has few
  partitions of a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import shake_128
from heapq import heappush, heapreplace
from struct import unpack

from pipeline.engine.members import Member

_FIRST_OF_ALL = 1 << 64
"""Above every rank: partitions that not everybody takes find a place before the others."""


def assign(members: Iterable[Member]) -> dict[tuple[str, int], str]:
    """The owner of each stage and partition; given up by all that run it, it is tried by all again."""
    listed = sorted(members, key=lambda member: member.name)
    loads = {member.name: 0 for member in listed}
    owners: dict[tuple[str, int], str] = {}
    for stage in sorted({stage for member in listed for stage in member.stages}):
        runners = [member for member in listed if stage in member.stages]
        for partition, name in enumerate(_shares(stage, runners, loads)):
            owners[stage, partition] = name
            loads[name] += 1
    return owners


def _shares(stage: str, runners: Sequence[Member], loads: dict[str, int]) -> list[str]:
    """Whose each partition of one stage is.

    Args:
        loads: how many partitions of other stages each worker has: who has few gets those that cannot be divided evenly.
    """
    count = max(member.stages[stage] for member in runners)
    everybody = range(len(runners))
    ranks = list(zip(*(_ranks(stage, member.name, count) for member in runners), strict=True))
    each, more = divmod(count, len(runners))
    room = [each] * len(runners)
    for runner in sorted(everybody, key=lambda runner: (loads[runners[runner].name], ranks[0][runner]))[:more]:
        room[runner] += 1

    held: list[list[tuple[int, int]]] = [
        [] for _ in runners
    ]  # heaps: the lowest rank, which is the first to go, on top
    candidates: list[list[int]] = []  # per partition: who has not refused it, the best last
    bonus = [0] * count
    refused: list[int] = []
    for partition in range(count):
        takers = _takers(stage, partition, runners)
        bonus[partition] = 0 if len(takers) == len(runners) else _FIRST_OF_ALL
        candidates.append(sorted(takers, key=ranks[partition].__getitem__))
        seeking = partition
        while seeking >= 0:
            seeking = _settle(seeking, candidates[seeking], ranks[seeking], bonus[seeking], held, room, refused)
    for partition in sorted(refused):  # everybody who takes it is full of such partitions: then evenly is impossible
        takers = _takers(stage, partition, runners)
        _, rank, runner = min((len(held[taker]), -ranks[partition][taker], taker) for taker in takers)
        held[runner].append((-rank, partition))

    owners = [""] * count
    for runner, member in enumerate(runners):
        for _, partition in held[runner]:
            owners[partition] = member.name
    return owners


def _settle(
    partition: int,
    candidates: list[int],
    ranks: Sequence[int],
    bonus: int,
    held: list[list[tuple[int, int]]],
    room: Sequence[int],
    refused: list[int],
) -> int:
    """Find a worker for a partition; answers the partition that had to make room for it, or -1."""
    while candidates:
        runner = candidates.pop()
        mine, entry = held[runner], (ranks[runner] + bonus, partition)
        if len(mine) < room[runner]:
            heappush(mine, entry)
            return -1
        if mine and mine[0] < entry:
            return heapreplace(mine, entry)[1]
    refused.append(partition)
    return -1


def _takers(stage: str, partition: int, runners: Sequence[Member]) -> list[int]:
    able = [runner for runner, member in enumerate(runners) if partition < member.stages[stage]]
    willing = [runner for runner in able if (stage, partition) not in runners[runner].without]
    return willing or able


def _ranks(stage: str, worker: str, count: int) -> tuple[int, ...]:
    """A worker's rank for each partition of a stage: as good as random, and the same everywhere and always."""
    return unpack(f">{count}Q", shake_128(f"{stage}/{worker}".encode()).digest(8 * count))
