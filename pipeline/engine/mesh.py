"""The event mesh as the engine sees it: partitions to read, commits to make, leases to hold.

Two implementations, one contract suite (``tests/contracts``): :mod:`pipeline.engine.memory` for tests, replays and
simulation, :mod:`pipeline.engine.redis_mesh` for production.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.engine.record import Commit, Offset, Output, Place, Record, Restored, RestoredPart, murmur2
from topology.errors import AiopsError, ConfigurationError, RetryableError


class MeshUnavailableError(RetryableError):
    """The mesh could not be reached, or could not take a write now."""


class FencedError(AiopsError):
    """Somebody else owns the partition now; drop everything held for it."""


class PartitionsChangedError(ConfigurationError):
    """The topology declares other partitions, or other tasks, than the deployment has; keys would miss their state."""


class LostWritesError(AiopsError):
    """The mesh knows less than what was committed to it: its server lost writes."""


MEMBERS: Place = ("~members", 0)
"""Has a new record, which says no more than that, whenever the list of live workers has changed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to commit for one stage and partition until it expires.

    Attributes:
        token: the fencing token; it changes with every new owner, and every effect is checked against it.
    """

    stage: str
    partition: int
    token: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a stage is behind in one partition of one of its inputs."""

    stage: str
    stream: str
    partition: int
    waiting: int


def within(head: str) -> int:
    """What is declared of a stage in place of a number of partitions, when it runs in the task of another stage.

    Its state is there; a negative number, which differs from that of any other stage.
    """
    return -1 - murmur2(head.encode())


def refuse_other_partitions(known: Mapping[str, int], declared: Mapping[str, int]) -> None:
    """Raise :class:`PartitionsChangedError` where what is declared differs from what is known."""
    changed = [name for name, count in declared.items() if known.get(name, count) != count]
    moved = [name for name in changed if min(known[name], declared[name]) < 0]
    if moved:
        msg = (
            f"the topology declares {', '.join(moved)} in another task than this deployment has it, and what it remembers is "
            f"kept where it was. Put `stored` of the stream it reads back, and who writes that; or give the stage a new id, "
            f"or the deployment another AIOPS_NAMESPACE, and start from nothing there"
        )
        raise PartitionsChangedError(msg)
    if changed:
        found = ", ".join(f"{name} with {declared[name]} partitions, not {known[name]}" for name in changed)
        msg = (
            f"the topology declares {found} as this deployment has it; keys would come to partitions where their order "
            f"and what is remembered of them is not. Put the number back; or give streams and the stages that read them "
            f"new names, or the deployment another AIOPS_NAMESPACE, and start from nothing there"
        )
        raise PartitionsChangedError(msg)


class Mesh(Protocol):
    """Streams of partitions, and what stages know about them.

    Every method may raise :class:`MeshUnavailableError`.  Whether the call had an effect is then unknown: of a commit
    only a new ``restore`` tells; everything else may simply be called again.
    """

    async def declare(self, partitions: Mapping[str, int]) -> None:
        """Say how many partitions streams and stages have; the first to say so decides, for as long as the mesh lasts.

        A key's place, and so its order and its state, follows from that number.

        Args:
            partitions: as :func:`pipeline.engine.inputs.partitions_of` names them.

        Raises:
            PartitionsChangedError: somebody else said otherwise.
        """

    async def publish(self, outputs: Sequence[Output]) -> int:
        """Append events from outside; durable when it returns.

        An event whose id is among the last so many of its partition is dropped: it is a repetition.  Derived ids (UUID
        version 5) are remembered apart from random ones, which come in greater numbers.

        Returns:
            how many were new.

        Raises:
            MeshUnavailableError: nothing, a part or all was appended; publishing all of it again, soon, is safe.
        """

    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        """Records after the given offsets, at most ``count`` per partition, in order of offset within each.

        Waits up to ``wait_s`` when there are none.
        """

    async def claim(self, stage: str, partition: int, owner: str, ttl_s: float) -> Lease | None:
        """Become the owner, with a new fencing token; None while somebody else is."""

    async def claim_all(self, wanted: Sequence[tuple[str, int]], owner: str, ttl_s: float) -> list[Lease | None]:
        """As ``claim``, for many stages and partitions."""

    async def renew(self, leases: Iterable[Lease], ttl_s: float) -> list[Lease]:
        """Keep leases from expiring; answers those that were lost."""

    async def release(self, *leases: Lease) -> None:
        """Give leases back; nothing happens to one that was lost already."""

    async def join(self, worker: str, ttl_s: float, takes: str = "") -> dict[str, str]:
        """Say that a worker is alive, and what it takes; answers all live workers, and what each of them takes."""

    async def leave(self, worker: str) -> None:
        """Say that a worker is gone."""

    async def restore(self, lease: Lease, inputs: Sequence[Place]) -> Restored:
        """The sum of all commits of this stage and partition; of a large state, its first part."""

    async def restore_more(self, lease: Lease, more: int) -> RestoredPart:
        """The next part of a large state, from where the part before said there is more.

        Only the owner changes it, so the parts fit together as long as the lease is held and no commit is made in between.

        Raises:
            FencedError: the lease was lost; what has come so far belongs to nobody's state.
        """

    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        """Make commits, each one atomic: fence checked, state, outputs, offset.

        Returns:
            for each commit None, or why it had no effect.
        """

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        """Keep an answer of the world until its event is done; raises :class:`FencedError` as a commit does."""

    async def lags(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Lag]:
        """How much is waiting for each (stage, partition, input)."""

    async def committed(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Offset]:
        """How far each (stage, partition, input) has committed; ``BEGINNING`` when it never did."""

    async def trim(self, place: Place, before: Offset) -> int:
        """Forget the records before an offset; answers how many they were.

        The caller sees to it that nobody needs them any more; :class:`pipeline.engine.retention.Janitor` does.
        """

    async def close(self) -> None:
        """Give back what the mesh holds; leases are left to expire or to be released before."""
