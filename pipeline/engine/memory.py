"""The mesh in one process: for tests, simulation, replay and backtest; on a clock that the caller moves."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

import orjson

from pipeline.engine.mesh import MEMBERS, FencedError, Lag, Lease, refuse_other_partitions
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, Place, Record, Restored, RestoredPart

REMEMBERED_IDS = 10_000
ROWS_PER_PART = 10_000


@dataclass(slots=True)
class _Partition:
    offsets: list[Offset] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    seen: dict[bool, deque[str]] = field(default_factory=lambda: {True: deque(), False: deque()})
    seen_ids: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Owned:
    token: int = 0
    owner: str = ""
    until_ms: int = 0
    offsets: dict[Place, Offset] = field(default_factory=dict)
    state: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)


class MemoryMesh:
    """Implements :class:`pipeline.engine.mesh.Mesh`; nothing survives the process.

    Args:
        clock_ms: milliseconds since the epoch; a virtual clock makes every offset a function of the input.
        rows_per_part: how many rows of a state are restored at once.
        put_out: takes what stages put out, in place of the streams; who takes it puts it there, with :meth:`put_all`.
    """

    def __init__(
        self,
        clock_ms: Callable[[], int],
        *,
        rows_per_part: int = ROWS_PER_PART,
        put_out: Callable[[Output], None] | None = None,
    ) -> None:
        self._clock_ms = clock_ms
        self._put_out = put_out or self._append
        self._watched: list[set[Place]] = []
        self._rows_per_part = rows_per_part
        self._partitions: dict[Place, _Partition] = defaultdict(_Partition)
        self._owned: dict[tuple[str, int], _Owned] = defaultdict(_Owned)
        self._workers: dict[str, tuple[int, str]] = {}
        self._partitions_of: dict[str, int] = {}
        self._last = BEGINNING
        self._appended = asyncio.Event()

    async def declare(self, partitions: Mapping[str, int]) -> None:
        refuse_other_partitions(self._partitions_of, partitions)
        self._partitions_of.update(partitions)

    async def publish(self, outputs: Sequence[Output]) -> int:
        new = 0
        for output in outputs:
            partition = self._partitions[output.stream, output.partition]
            if not self._is_new(partition, output):
                continue
            self._append(output)
            new += 1
        return new

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        found = self._read_now(places, count)
        if not found and wait_s > 0:
            self._appended.clear()
            try:
                await asyncio.wait_for(self._appended.wait(), wait_s)
            except TimeoutError:
                return []
            found = self._read_now(places, count)
        return found

    async def claim(self, stage: str, partition: int, owner: str, ttl_s: float) -> Lease | None:
        owned = self._owned[stage, partition]
        now = self._clock_ms()
        if owned.until_ms > now and owned.owner != owner:
            return None
        owned.token += 1
        owned.owner = owner
        owned.until_ms = now + int(ttl_s * 1000)
        return Lease(stage, partition, str(owned.token))

    async def claim_all(self, wanted: Sequence[tuple[str, int]], owner: str, ttl_s: float) -> list[Lease | None]:
        return [await self.claim(stage, partition, owner, ttl_s) for stage, partition in wanted]

    async def renew(self, leases: Iterable[Lease], ttl_s: float) -> list[Lease]:
        lost = []
        for lease in leases:
            if self._holds(lease):
                self._owned[lease.stage, lease.partition].until_ms = self._clock_ms() + int(ttl_s * 1000)
            else:
                lost.append(lease)
        return lost

    async def release(self, *leases: Lease) -> None:
        for lease in leases:
            if self._holds(lease):
                self._owned[lease.stage, lease.partition].until_ms = 0

    async def join(self, worker: str, ttl_s: float, takes: str = "") -> dict[str, str]:
        now, before = self._clock_ms(), {name: said for name, (_, said) in self._workers.items()}
        self._workers[worker] = now + int(ttl_s * 1000), takes
        self._workers = {name: (until, said) for name, (until, said) in self._workers.items() if until > now}
        alive = {name: said for name, (_, said) in self._workers.items()}
        if alive != before:
            self._members_changed(worker)
        return alive

    async def leave(self, worker: str) -> None:
        if self._workers.pop(worker, None) is not None:
            self._members_changed(worker)

    async def restore(self, lease: Lease, inputs: Sequence[Place]) -> Restored:
        owned = self._owned[lease.stage, lease.partition]
        first = self._part(owned, 0)
        return Restored(
            offsets={place: owned.offsets.get(place, BEGINNING) for place in inputs},
            state=first.state,
            answers={key: orjson.loads(answer) for key, answer in owned.answers.items()},
            rows=len(owned.state),
            more=first.more,
        )

    async def restore_more(self, lease: Lease, more: int) -> RestoredPart:
        if not self._holds(lease):
            raise _fenced(lease)
        return self._part(self._owned[lease.stage, lease.partition], more)

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        return [self._commit(lease, commit) for lease, commit in commits]

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        if not self._holds(lease):
            raise _fenced(lease)
        self._owned[lease.stage, lease.partition].answers.setdefault(key, answer)

    async def lags(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Lag]:
        return [
            Lag(stage, place[0], place[1], self._waiting(self._owned[stage, partition].offsets.get(place), place))
            for stage, partition, place in consumers
        ]

    async def committed(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Offset]:
        return [self._owned[stage, partition].offsets.get(place, BEGINNING) for stage, partition, place in consumers]

    async def trim(self, place: Place, before: Offset) -> int:
        partition = self._partitions[place]
        count = bisect_left(partition.offsets, before)
        del partition.offsets[:count]
        del partition.records[:count]
        return count

    async def close(self) -> None:
        """Nothing to give back."""

    def put_all(self, place: Place, records: Sequence[Record]) -> None:
        """Append records to a partition at their own offsets, which are in order, and after all that it has."""
        partition = self._partitions[place]
        partition.offsets += [record.offset for record in records]
        partition.records += records
        for watched in self._watched:
            watched.add(place)
        self._appended.set()

    def watch(self) -> set[Place]:
        """The partitions that something is appended to from now on; whoever has seen them takes them out."""
        watched: set[Place] = set()
        self._watched.append(watched)
        return watched

    def records(self, stream: str) -> list[Record]:
        """Everything on a stream, in order of offset: what a test or a report looks at."""
        found = [record for (name, _), p in self._partitions.items() if name == stream for record in p.records]
        return sorted(found, key=lambda record: (record.offset, record.partition))

    def _commit(self, lease: Lease, commit: Commit) -> FencedError | None:
        if not self._holds(lease):
            return _fenced(lease)
        owned = self._owned[lease.stage, lease.partition]
        owned.offsets.update(commit.offsets)
        for row, value in commit.state.items():
            if value is None:
                owned.state.pop(row, None)
            else:
                owned.state[row] = value
        for key in commit.answered:
            owned.answers.pop(key, None)
        for output in commit.outputs:
            self._put_out(output)
        return None

    def _part(self, owned: _Owned, start: int) -> RestoredPart:
        end = start + self._rows_per_part
        return RestoredPart(dict(islice(owned.state.items(), start, end)), end if end < len(owned.state) else 0)

    def _members_changed(self, worker: str) -> None:
        self._partitions.pop(MEMBERS, None)
        self._append(Output(*MEMBERS, worker, "members.changed", str(UUID(int=0)), b""))

    def _append(self, output: Output) -> None:
        ms = max(self._clock_ms(), self._last.ms)
        self._last = Offset(ms, self._last.seq + 1 if ms == self._last.ms else 0)
        place = output.stream, output.partition
        self.put_all(place, [Record(*place, self._last, output.key, output.event_type, output.value)])

    def _is_new(self, partition: _Partition, output: Output) -> bool:
        event_id = output.id
        if event_id in partition.seen_ids:
            return False
        partition.seen_ids.add(event_id)
        lately = partition.seen[output.has_derived_id]  # random ids must not push out the others
        lately.append(event_id)
        if len(lately) > REMEMBERED_IDS:
            partition.seen_ids.discard(lately.popleft())
        return True

    def _read_now(self, places: Mapping[Place, Offset], count: int) -> list[Record]:
        found: list[Record] = []
        for place, after in places.items():
            partition = self._partitions.get(place)
            if partition is not None:
                start = bisect_right(partition.offsets, after)
                found += partition.records[start : start + count]
        return found

    def _waiting(self, offset: Offset | None, place: Place) -> int:
        partition = self._partitions[place]
        return len(partition.offsets) - bisect_right(partition.offsets, offset or BEGINNING)

    def _holds(self, lease: Lease) -> bool:
        owned = self._owned[lease.stage, lease.partition]
        return str(owned.token) == lease.token and owned.until_ms > self._clock_ms()


def _fenced(lease: Lease) -> FencedError:
    msg = f"token {lease.token} of {lease.stage}/{lease.partition} has expired or was passed on; drop the partition"
    return FencedError(msg)
