"""The mesh on Redis or Valkey, 7.0 or newer: one stream per partition, one Lua call per commit.

With one owner per partition a consumer group's pending list buys nothing, so records are read from the committed
offset with XREAD; the group's position is moved along inside the commit, for the lag that other tools show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from hiredis import pack_command
from redis.exceptions import NoScriptError, RedisError, ResponseError

from pipeline.engine.acknowledged import COMMITS, WHAT_TO_DO
from pipeline.engine.mesh import FencedError, Lag, Lease, LostWritesError, refuse_other_partitions
from pipeline.engine.outbox import by_slot, forward_call, inputs_elsewhere, through_outbox
from pipeline.engine.outputs import LATE
from pipeline.engine.oversight import Oversight, introduce
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, Place, Record, Restored, RestoredPart
from pipeline.engine.redis_answers import (
    fenced,
    field_of,
    fields_of,
    kind_of,
    or_unavailable,
    outcome_of,
    part_of,
    text,
)
from pipeline.engine.redis_reach import RedisReach
from pipeline.engine.server_check import missing

REMEMBERED_IDS = 10_000
_BLOCK_MAX_S = 5.0
_TRIMMED_PER_CALL = 100_000
_EVENTS_PER_CALL = 1_000
"""A script that appends holds up everybody else on the server for about five microseconds per event."""
_LATE: Place = (LATE.name, 0)
_ROWS_PER_PART = 1_000
"""Of 2 KB each they take the server two milliseconds, in which it serves nobody else; of a count, a quarter of one."""
_LEASES_PER_CALL = 500


class RedisMesh(RedisReach):
    """Implements :class:`pipeline.engine.mesh.Mesh`.

    On a Redis Cluster calls go to the nodes they concern, and a commit's outputs to other slots through an outbox, see
    :mod:`pipeline.engine.outbox`.
    """

    @property
    def oversight(self) -> Oversight:
        """The deployment seen from outside."""
        return Oversight(self, self.keys)

    @or_unavailable
    async def declare(self, partitions: Mapping[str, int]) -> None:
        async with self._many_at_once:
            known = await self._partitions_of(partitions)
            new = [name for name in partitions if name not in known]
            if new:  # only then is anything written: a full server takes no write, and need not
                pipe = self._redis.pipeline(transaction=False)
                for name in new:
                    pipe.hsetnx(self.keys.partition_counts, name, partitions[name])
                await pipe.execute()
                await self._partitions_of(partitions)

    @or_unavailable
    async def publish(self, outputs: Sequence[Output]) -> int:
        new = 0
        async with self._many_at_once:
            for some in self._together(outputs, _EVENTS_PER_CALL, lambda output: output.partition):
                new += await self._publish_some(some)
        return new

    @or_unavailable
    async def forward(self, lease: Lease, entries: Sequence[Record]) -> int:
        """Append what an outbox holds for one slot, once; answers how many were new.

        Raises:
            FencedError: another forwarder has taken the place of the one that holds this lease.
        """
        keys, args, places = forward_call(self.keys, lease, entries)
        try:
            new, *last = await self._forward(keys=keys, args=args)
        except ResponseError as error:
            raise outcome_of(lease, error) or error from error
        self._remember(places, last)
        return int(new)

    @or_unavailable
    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        names = {self.keys.partition(place).encode(): place for place in places}
        block_ms = max(1, int(min(wait_s, _BLOCK_MAX_S) * 1000)) if wait_s > 0 else 0
        found: Any
        if self._cluster is not None:
            slots = by_slot(places.items(), lambda item: item[0][1])
            found = await self._cluster.read(
                [tuple((self.keys.partition(place), str(offset)) for place, offset in slot) for slot in slots],
                count=count,
                block_ms=block_ms,
            )
        else:
            block = (b"BLOCK", block_ms) if block_ms else ()
            positions = map(str, places.values())
            # Not by the client's own way: it takes long to pack hundreds of names, and makes a dictionary of each entry.
            call = pack_command((b"XREAD", b"COUNT", count, *block, b"STREAMS", *names, *positions))
            (found,) = await self._answers_to([call])
            if isinstance(found, Exception):
                raise found
        records: list[Record] = []
        append = records.append
        for name, entries in found or ():
            stream, partition = names[name]
            for offset, fields in entries:
                try:
                    k, key, t, kind, e, value = fields
                except (TypeError, ValueError):  # trimmed away while it was read, or not ours
                    k = t = e = key = kind = value = b""
                if k != b"k" or t != b"t" or e != b"e":
                    key, kind, value = fields_of(fields)
                append(Record(stream, partition, offset, str(key, "utf-8", "replace"), kind_of(kind), value))
        return records

    @or_unavailable
    async def claim(self, stage: str, partition: int, owner: str, ttl_s: float) -> Lease | None:
        (lease,) = await self.claim_all([(stage, partition)], owner, ttl_s)
        return lease

    @or_unavailable
    async def claim_all(self, wanted: Sequence[tuple[str, int]], owner: str, ttl_s: float) -> list[Lease | None]:
        leases: dict[tuple[str, int], Lease] = {}
        for some in self._together(wanted, _LEASES_PER_CALL, lambda place: place[1]):
            keys = [self.keys.owned(*place, what) for place in some for what in ("lease", "tokens")]
            tokens = await self._claim(keys=keys, args=[owner, int(ttl_s * 1000)])
            leases |= {place: Lease(*place, token.decode()) for place, token in zip(some, tokens, strict=True) if token}
        return [leases.get(place) for place in wanted]

    @or_unavailable
    async def renew(self, leases: Iterable[Lease], ttl_s: float) -> list[Lease]:
        lost: list[Lease] = []
        for some in self._together(list(leases), _LEASES_PER_CALL, lambda lease: lease.partition):
            args: list[Any] = [int(ttl_s * 1000), *(lease.token for lease in some)]
            lost += [some[index - 1] for index in await self._renew(keys=self._lease_keys(some), args=args)]
        return lost

    @or_unavailable
    async def release(self, *leases: Lease) -> None:
        for some in self._together(leases, _LEASES_PER_CALL, lambda lease: lease.partition):
            await self._release(keys=self._lease_keys(some), args=[lease.token for lease in some])

    @or_unavailable
    async def join(self, worker: str, ttl_s: float, takes: str = "") -> dict[str, str]:
        alive = await self._join(keys=self.keys.members, args=[worker, int(ttl_s * 1000), takes])
        return {name.decode(): said.decode() for name, said in zip(alive[::2], alive[1::2], strict=True)}

    @or_unavailable
    async def leave(self, worker: str) -> None:
        await self._leave(keys=self.keys.members, args=[worker])

    @or_unavailable
    async def alive(self) -> list[str]:
        """The names of the live workers, without joining them."""
        names: Any = await self._redis.zrange(self.keys.workers, 0, -1)
        return [text(name) for name in names]

    @or_unavailable
    async def restore(self, lease: Lease, inputs: Sequence[Place]) -> Restored:
        state_key = self.keys.owned(lease.stage, lease.partition, "state")
        pipe = self._redis.pipeline(transaction=True)
        for what in ("offsets", "answers"):
            pipe.hgetall(self.keys.owned(lease.stage, lease.partition, what))
        pipe.hlen(state_key)
        pipe.hscan(state_key, 0, count=_ROWS_PER_PART)
        for place in inputs:
            pipe.xinfo_stream(self.keys.partition(place))
        offsets, answers, rows, scanned, *streams = await pipe.execute(raise_on_error=False)
        for failure in (offsets, answers, rows, scanned):
            if isinstance(failure, Exception):
                raise failure
        first = part_of(scanned)
        restored = Restored(
            offsets={place: Offset.parse(offsets.get(field_of(place).encode(), b"0-0")) for place in inputs},
            state=first.state,
            answers={key.decode(): orjson.loads(value) for key, value in answers.items()},
            rows=rows,
            more=first.more,
        )
        self._acknowledged.restored(lease, int(offsets.get(COMMITS.encode(), 0)))
        for place, info in zip(inputs, streams, strict=True):
            read = int(offsets.get(f"{field_of(place)}#".encode(), 0))
            if reason := missing(restored.offsets[place], read, None if isinstance(info, RedisError) else info):
                msg = f"{lease.stage} has committed {restored.offsets[place]} of {field_of(place)}, but {reason}. {WHAT_TO_DO}"
                raise LostWritesError(msg)
            if restored.offsets[place] == BEGINNING:
                known = None if isinstance(info, RedisError) else info
                await introduce(self._redis, self.keys, lease.stage, place, known)
        return restored

    @or_unavailable
    async def restore_more(self, lease: Lease, more: int) -> RestoredPart:
        pipe = self._redis.pipeline(transaction=True)
        pipe.hscan(self.keys.owned(lease.stage, lease.partition, "state"), more, count=_ROWS_PER_PART)
        pipe.get(self.keys.owned(lease.stage, lease.partition, "lease"))
        scanned, token = await pipe.execute()
        # A lease that was lost never comes back: held after a part, it was held while all of it was read.
        if token != lease.token.encode():
            raise fenced(lease)
        return part_of(scanned)

    @or_unavailable
    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        results = await self._evaluate(commits)
        forgotten = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if forgotten:  # the server restarted; what it did not run had no effect
            await self._redis.script_load(self._commit.script)
            again = await self._evaluate([commits[n] for n in forgotten])
            for n, result in zip(forgotten, again, strict=True):
                results[n] = result
        outcomes = [outcome_of(lease, result) for (lease, _), result in zip(commits, results, strict=True)]
        for (lease, _), outcome in zip(commits, outcomes, strict=True):
            if outcome is None:
                self._acknowledged.committed(lease)
        if self._cluster is not None:
            await self._move_groups(
                [commit for (_, commit), outcome in zip(commits, outcomes, strict=True) if not outcome]
            )
        return outcomes

    @or_unavailable
    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        keys = [self.keys.owned(lease.stage, lease.partition, what) for what in ("lease", "answers")]
        try:
            async with self._many_at_once:
                await self._answer(keys=keys, args=[lease.token, key, answer])
        except ResponseError as error:
            raise outcome_of(lease, error) or error from error

    @or_unavailable
    async def lags(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Lag]:
        pipe = self._redis.pipeline(transaction=False)
        for stage, partition, place in consumers:
            pipe.hget(self.keys.owned(stage, partition, "offsets"), f"{field_of(place)}#")
            pipe.xinfo_stream(self.keys.partition(place))
        answers = await pipe.execute(raise_on_error=False)
        lags = []
        for number, (stage, _, place) in enumerate(consumers):
            read, info = answers[2 * number], answers[2 * number + 1]
            if isinstance(info, RedisError):
                waiting = 0
            else:  # before its first commit a stage has everything before it that is still there
                waiting = info["length"] if read is None else info["entries-added"] - int(read)
            lags.append(Lag(stage, place[0], place[1], max(0, waiting)))
        return lags

    @or_unavailable
    async def committed(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Offset]:
        pipe = self._redis.pipeline(transaction=False)
        for stage, partition, place in consumers:
            pipe.hget(self.keys.owned(stage, partition, "offsets"), field_of(place))
        return [BEGINNING if found is None else Offset.parse(found) for found in await pipe.execute()]

    @or_unavailable
    async def trim(self, place: Place, before: Offset) -> int:
        stream, minid, trimmed = self.keys.partition(place), str(before), 0
        # Whole nodes first, some at a time: a server that forgets a day's events at once does nothing else meanwhile.
        while some := await self._redis.xtrim(stream, minid=minid, approximate=True, limit=_TRIMMED_PER_CALL):
            trimmed += int(some)
        return trimmed + int(await self._redis.xtrim(stream, minid=minid, approximate=False))

    async def _partitions_of(self, declared: Mapping[str, int]) -> dict[str, int]:
        counts = await self._redis.hmget(self.keys.partition_counts, list(declared))
        known = {name: int(count) for name, count in zip(declared, counts, strict=True) if count is not None}
        refuse_other_partitions(known, declared)
        return known

    def _lease_keys(self, leases: Iterable[Lease]) -> list[str]:
        return [self.keys.owned(lease.stage, lease.partition, "lease") for lease in leases]

    async def _publish_some(self, outputs: Sequence[Output]) -> int:
        index: dict[Place, int] = {}
        keys: list[str] = []
        args: list[Any] = [REMEMBERED_IDS]
        for output in outputs:
            place = output.stream, output.partition
            if place not in index:
                index[place] = len(index) + 1
                keys += [self.keys.partition(place), self.keys.seen(place), self.keys.seen_random(place)]
            kind = 1 if output.has_derived_id else 2
            args += [
                index[place],
                kind,
                bytes.fromhex(output.id.replace("-", "")),
                output.key,
                output.event_type,
                output.value,
            ]
        new, *last = await self._publish(keys=keys, args=args)
        self._remember(index, last)
        return int(new)

    def _remember(self, places: Iterable[Place], last: Iterable[bytes]) -> None:
        for place, offset in zip(places, last, strict=True):
            if offset:
                self._acknowledged.published(place, offset)

    async def _evaluate(self, commits: Sequence[tuple[Lease, Commit]]) -> list[Any]:
        if self._cluster is not None:
            return await self._cluster.each([self._cluster_call(lease, commit) for lease, commit in commits])
        calls = []
        for lease, commit in commits:
            keys, args = self._commit_call(lease, commit)
            calls.append(pack_command(("EVALSHA", self._commit.sha, len(keys), *keys, *args)))
        return await self._answers_to(calls)

    def _cluster_call(self, lease: Lease, commit: Commit) -> tuple[int, tuple[Any, ...]]:
        keys, args = self._commit_call(lease, through_outbox(commit))
        args[4] = sum(output.stream == LATE.name for output in commit.outputs)
        elsewhere = set(inputs_elsewhere(commit))
        for number, place in enumerate(commit.offsets):
            if place in elsewhere:
                keys[4 + number] = keys[2]
        return lease.partition, ("EVALSHA", self._commit.sha, len(keys), *keys, *args)

    async def _move_groups(self, commits: Sequence[Commit]) -> None:
        """Show other tools the lag in streams that the commits could not touch; the next commit does it again."""
        for commit in commits:
            for place in inputs_elsewhere(commit):
                stream, offset = self.keys.partition(place), str(commit.offsets[place])
                owned = self.keys.owned(commit.stage, commit.partition, "offsets")
                read = int(await self._redis.hget(owned, f"{field_of(place)}#") or 0)
                try:
                    await self._redis.xgroup_setid(stream, commit.stage, offset, entries_read=read)
                except ResponseError:  # there is no such group yet
                    await self._redis.xgroup_create(stream, commit.stage, offset, mkstream=True, entries_read=read)

    def _commit_call(self, lease: Lease, commit: Commit) -> tuple[list[str], list[Any]]:
        keys = [self.keys.owned(lease.stage, lease.partition, w) for w in ("lease", "state", "offsets", "answers")]
        before = self._acknowledged.commits_before(lease)
        args: list[Any] = [lease.token, lease.stage, "" if before is None else before, len(commit.outputs), 0]
        args.append(len(commit.offsets))
        for place, offset in commit.offsets.items():
            keys.append(self.keys.partition(place))
            args += [field_of(place), str(offset), commit.records.get(place, 0)]
        kept = [part for row, value in commit.state.items() if value is not None for part in (row, value)]
        gone = [row for row, value in commit.state.items() if value is None]
        args += [len(kept), *kept, len(gone), *gone, len(commit.answered), *commit.answered]
        index: dict[Place, int] = {}
        for output in commit.outputs:
            place = output.stream, output.partition
            if place not in index:
                keys.append(self.keys.partition(place))
                index[place] = len(keys)
            args += [index[place], output.key, output.event_type, output.value]
        if _LATE in index:
            args[4] = sum(output.stream == LATE.name for output in commit.outputs)
        return keys, args
