"""Memory and Redis agree step by step, whatever is done to them in whatever order, by owners old and new.

Offsets differ from mesh to mesh, so a place in a partition is named here by how many records came before it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import MEMBERS, FencedError, Lease, Mesh
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, Place, Record
from pipeline.engine.redis_mesh import RedisMesh
from topology.ids import derived_id

T = TypeVar("T")
Leases = tuple[Lease, Lease]
"""The same lease, as each mesh gave it."""

STAGES = ("count", "forward")
PARTITIONS = (0, 1)
STREAMS = ("signals", "findings")
PLACES: tuple[Place, ...] = tuple((stream, partition) for stream in STREAMS for partition in PARTITIONS)
CONSUMERS = [(stage, p, ("signals", p)) for stage in STAGES for p in PARTITIONS]
LONG_S = 3600.0

stages, partitions, owners = st.sampled_from(STAGES), st.sampled_from(PARTITIONS), st.sampled_from(("one", "two"))
rows = st.dictionaries(st.sampled_from(("a/x", "a/y", "b/z")), st.none() | st.binary(max_size=4), max_size=3)
answer_keys = st.sampled_from(("e1/q", "e2/q"))
mostly = st.sampled_from((True, True, True, False))
published = st.tuples(st.sampled_from(PLACES), st.integers(0, 6), st.booleans())
said = st.tuples(st.sampled_from(PLACES), st.integers(0, 6))


class BothMeshes(RuleBasedStateMachine):
    """Does everything twice, and compares."""

    leases = Bundle("leases")
    redis_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now_ms = 1_000_000
        self.memory = MemoryMesh(lambda: self.now_ms)
        self.redis = self.run(self._connected())
        self.offsets: dict[Place, tuple[list[Offset], list[Offset]]] = {place: ([], []) for place in PLACES}
        self.trimmed: dict[Place, int] = defaultdict(int)
        self.current: dict[tuple[str, int], Leases] = {}
        self.done: dict[tuple[str, Place], int] = {}
        self.members_at: dict[Mesh, Offset] = {self.memory: BEGINNING, self.redis: BEGINNING}

    def teardown(self) -> None:
        self.run(self.redis.close())
        self.runner.close()

    @initialize(target=leases)
    def begin(self) -> Any:
        """Everything has an owner."""
        return multiple(*(self.claim(stage, p, "one") for stage, p, _ in CONSUMERS))

    # --- what is done ------------------------------------------------------------------------------------------------

    @rule(events=st.lists(published, max_size=5))
    def publish(self, events: list[tuple[Place, int, bool]]) -> None:
        outputs = [_output(place, number, derived=derived) for place, number, derived in events]
        self.same(lambda mesh: mesh.publish(outputs))
        self.look()

    @rule(target=leases, stage=stages, partition=partitions, owner=owners)
    def claim(self, stage: str, partition: int, owner: str) -> Any:
        ours, theirs = self.both(lambda mesh: mesh.claim(stage, partition, owner, LONG_S))
        assert (ours is None) == (theirs is None)
        if ours is None or theirs is None:
            return multiple()
        self.current[stage, partition] = ours, theirs
        return ours, theirs

    @rule(held=st.lists(leases, max_size=4))
    def renew(self, held: list[Leases]) -> None:
        mine, other = [ours for ours, _ in held], [theirs for _, theirs in held]
        lost = self.run(self.memory.renew(mine, LONG_S)), self.run(self.redis.renew(other, LONG_S))
        assert [mine.index(lease) for lease in lost[0]] == [other.index(lease) for lease in lost[1]]

    @rule(held=leases)
    def release(self, held: Leases) -> None:
        self.each(held, lambda mesh, lease: mesh.release(lease))

    @rule(owner=owners)
    def claim_all(self, owner: str) -> None:
        wanted = [(stage, partition) for stage, partition, _ in CONSUMERS]
        ours, theirs = self.both(lambda mesh: mesh.claim_all(wanted, owner, LONG_S))
        for place, one, other in zip(wanted, ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                self.current[place] = one, other

    @rule(held=st.lists(leases, max_size=4))
    def release_all(self, held: list[Leases]) -> None:
        self.run(self.memory.release(*(ours for ours, _ in held)))
        self.run(self.redis.release(*(theirs for _, theirs in held)))

    @rule()
    def read_whether_members_changed(self) -> None:
        ours, theirs = self.both(lambda mesh: mesh.read({MEMBERS: self.members_at[mesh]}, count=9, wait_s=0))
        assert len(ours) == len(theirs)
        for mesh, records in zip(self.meshes, (ours, theirs), strict=True):
            self.members_at[mesh] = max([self.members_at[mesh], *(record.offset for record in records)])

    @rule(stage=stages, partition=partitions)
    def expire(self, stage: str, partition: int) -> None:
        """As if its time had run out: nobody holds it any more."""
        self.memory._owned[stage, partition].until_ms = 0
        self.run(self.redis._redis.delete(self.redis.keys.owned(stage, partition, "lease")))

    @rule(ms=st.integers(0, 1_000))
    def pass_time(self, ms: int) -> None:
        """Within every lease; the server's own clock does as it likes."""
        self.now_ms += ms

    @rule(
        commits=st.lists(
            st.tuples(leases, mostly, st.integers(0, 3), rows, st.lists(said, max_size=2)), min_size=1, max_size=3
        )
    )
    def commit(self, commits: list[tuple[Leases, bool, int, dict[str, bytes | None], list[tuple[Place, int]]]]) -> None:
        for old, renewed, forward, state, outputs in commits:
            held = self.newest(old) if renewed else old
            lease = held[0]
            place: Place = ("signals", lease.partition)
            begun = self.done.get((lease.stage, place), self.trimmed[place])
            end = min(begun + forward, len(self.offsets[place][0]))
            made = []
            for number, one in enumerate(held):
                commit = Commit(lease.stage, lease.partition, {}, state=dict(state))
                if end > begun:
                    commit.offsets = {place: self.offsets[place][number][end - 1]}
                    commit.records = {place: end - begun}
                commit.outputs = [_output(where, what, derived=True) for where, what in outputs]
                made.append((one, commit))
            ours, theirs = self.run(self.memory.commit(made[:1])), self.run(self.redis.commit(made[1:]))
            assert _kinds(ours) == _kinds(theirs)
            event("commit taken" if ours == [None] else "commit fenced")
            if ours == [None] and end > begun:
                self.done[lease.stage, place] = end
            self.look()

    @rule(old=leases, renewed=mostly, key=answer_keys, answer=st.integers(0, 9))
    def record_answer(self, old: Leases, *, renewed: bool, key: str, answer: int) -> None:
        held = self.newest(old) if renewed else old

        def attempt(mesh: Mesh, lease: Lease) -> Awaitable[str]:
            async def outcome() -> str:
                try:
                    await mesh.record_answer(lease, key, orjson.dumps(answer))
                except FencedError:
                    return "fenced"
                return "recorded"

            return outcome()

        ours, theirs = self.each(held, attempt)
        assert ours == theirs
        self.restore(held)

    @rule(held=leases, keys=st.lists(answer_keys, max_size=2))
    def forget_answers(self, held: Leases, keys: list[str]) -> None:
        commits = [(lease, Commit(lease.stage, lease.partition, {}, answered=keys)) for lease in held]
        ours, theirs = self.run(self.memory.commit(commits[:1])), self.run(self.redis.commit(commits[1:]))
        assert _kinds(ours) == _kinds(theirs)

    @rule(held=leases)
    def read_back(self, held: Leases) -> None:
        self.restore(held)

    def restore(self, held: Leases) -> None:
        place: Place = ("signals", held[0].partition)
        ours, theirs = self.each(held, lambda mesh, lease: mesh.restore(lease, [place]))
        assert (ours.state, ours.answers) == (theirs.state, theirs.answers)
        assert self.numbered(place, 0, ours.offsets[place]) == self.numbered(place, 1, theirs.offsets[place])

    @rule(held=consumes(leases))
    def forget(self, held: Leases) -> None:
        """An owner that died."""

    @rule(place=st.sampled_from(PLACES), back=st.integers(0, 8), count=st.integers(1, 4))
    def read(self, place: Place, back: int, count: int) -> None:
        after = max(0, len(self.offsets[place][0]) - back)
        ours, theirs = (
            self.run(mesh.read({place: self.offset(place, number, after)}, count=count, wait_s=0))
            for number, mesh in enumerate(self.meshes)
        )
        assert [self.seen(record, 0) for record in ours] == [self.seen(record, 1) for record in theirs]

    @rule(place=st.sampled_from(PLACES), back=st.integers(1, 8))
    def trim(self, place: Place, back: int) -> None:
        """Only what everybody has read that has begun, as the janitor does."""
        read = [done for (_, where), done in self.done.items() if where == place]
        end = max(0, min([len(self.offsets[place][0]) - back, *read]))
        if end >= len(self.offsets[place][0]):
            return
        ours, theirs = (
            self.run(mesh.trim(place, self.offsets[place][number][end])) for number, mesh in enumerate(self.meshes)
        )
        assert ours == theirs
        self.trimmed[place] = max(self.trimmed[place], end)

    @rule(worker=owners, takes=st.sampled_from(("", "all")), leaves=st.booleans())
    def join(self, worker: str, takes: str, *, leaves: bool) -> None:
        self.same(lambda mesh: mesh.join(worker, LONG_S, takes))
        if leaves:
            self.same(lambda mesh: mesh.leave(worker))

    @invariant()
    def lags_agree(self) -> None:
        ours, theirs = self.both(lambda mesh: mesh.lags(CONSUMERS))
        assert ours == theirs

    @invariant()
    def positions_agree(self) -> None:
        ours, theirs = self.both(lambda mesh: mesh.committed(CONSUMERS))
        for (_, _, place), mine, other in zip(CONSUMERS, ours, theirs, strict=True):
            assert self.numbered(place, 0, mine) == self.numbered(place, 1, other)

    # --- how -----------------------------------------------------------------------------------------------------------

    async def _connected(self) -> RedisMesh:
        return RedisMesh.connect(self.redis_url, namespace=f"t{uuid4().hex[:8]}")

    @property
    def meshes(self) -> tuple[Mesh, Mesh]:
        return self.memory, cast("Mesh", self.redis)

    def run(self, call: Awaitable[T]) -> T:
        async def answer() -> T:
            return await call

        return self.runner.run(answer())

    def both(self, call: Callable[[Mesh], Awaitable[T]]) -> tuple[T, T]:
        ours, theirs = self.meshes
        return self.run(call(ours)), self.run(call(theirs))

    def same(self, call: Callable[[Mesh], Awaitable[T]]) -> None:
        ours, theirs = self.both(call)
        assert ours == theirs

    def each(self, held: Leases, call: Callable[[Mesh, Lease], Awaitable[T]]) -> tuple[T, T]:
        return self.run(call(self.memory, held[0])), self.run(call(self.meshes[1], held[1]))

    def newest(self, held: Leases) -> Leases:
        """The last lease anybody got for the same stage and partition."""
        return self.current[held[0].stage, held[0].partition]

    def look(self) -> None:
        """Take note of what was appended, and compare it."""
        for place, known in self.offsets.items():
            found = [
                self.run(mesh.read({place: known[number][-1] if known[number] else BEGINNING}, count=1000, wait_s=0))
                for number, mesh in enumerate(self.meshes)
            ]
            assert [_what(record) for record in found[0]] == [_what(record) for record in found[1]]
            for number, records in enumerate(found):
                known[number].extend(record.offset for record in records)

    def offset(self, place: Place, mesh: int, after: int) -> Offset:
        return self.offsets[place][mesh][after - 1] if after else BEGINNING

    def numbered(self, place: Place, mesh: int, offset: Offset) -> int:
        return 0 if offset == BEGINNING else self.offsets[place][mesh].index(offset) + 1

    def seen(self, record: Record, mesh: int) -> object:
        return self.numbered((record.stream, record.partition), mesh, record.offset), _what(record)


def _output(place: Place, number: int, *, derived: bool) -> Output:
    event_id = derived_id(number) if derived else UUID(int=number, version=4)
    return Output(*place, f"key-{number}", "metric.sampled", str(event_id), b'{"number": %d}' % number)


def _what(record: Record) -> object:
    return record.stream, record.partition, record.key, record.event_type, record.value


def _kinds(outcomes: list[FencedError | None]) -> list[type[object]]:
    return [type(outcome) for outcome in outcomes]


@pytest.mark.servers
def test_memory_and_redis_agree_on_every_step(redis_url: str) -> None:
    machine = type("Machine", (BothMeshes,), {"redis_url": redis_url})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
