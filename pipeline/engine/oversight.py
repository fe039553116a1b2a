"""A deployment on Redis seen from outside: how far everybody has come, who owns what, and what workers say of themselves.

Nothing here is needed for the work itself; ``aiops top`` asks, workers tell.  Looking only reads, a few microseconds of
the server's time per partition and stage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from pipeline.engine.keys import Keys
from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.record import Place
from pipeline.engine.redis_answers import Reached, or_unavailable
from pipeline.engine.rows import EVICTED_ROW, evicted_of, following

REPORT_EVERY_S = 2.0
_AT_ONCE = 500
"""Commands per round trip: other clients of the server wait no longer than a millisecond or two."""
_NO_STREAM = "no such key"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer has come in a partition, as ``XINFO GROUPS`` shows it.

    Attributes:
        consumer: a stage; what is not one (a sink) begins with ``~``.
        read: records it has passed since the partition began, with those that were trimmed before it came.
        waiting: records it has not committed yet.  Redis shows nothing where somebody has deleted single records ahead
            of it; then this counts them too.
    """

    consumer: str
    place: Place
    read: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Who owns a stage's partition, and what was committed for it since the beginning.

    Attributes:
        owner: the worker that holds the lease; None while nobody does.
        late: how many of the outputs say that an entry came too late for its window.
        evicted: how many keys its tables dropped to stay within their bounds, by table and by bound (``keys_max``,
            ``retain``).
    """

    stage: str
    partition: int
    owner: str | None
    outputs: int
    late: int
    evicted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself; partitions are written ``stage/partition``.

    Attributes:
        halted: partitions that wait for a person, and why.
        stalled: partitions that were restarted and have not moved since, and why.
        restoring: partitions whose state is being brought back, and how far that is.
        troubles: what is not as it should be, in a few words each.
    """

    halted: Mapping[str, str] = field(default_factory=dict)
    stalled: Mapping[str, str] = field(default_factory=dict)
    restoring: Mapping[str, str] = field(default_factory=dict)
    troubles: Sequence[str] = ()


class Oversight:
    """Looks at one namespace of a server; every method may raise :class:`MeshUnavailableError`."""

    def __init__(self, reached: Reached, keys: Keys) -> None:
        self._reached = reached
        self._keys = keys
        self.outage = reached.outage

    @property
    def client(self) -> Redis:
        """What talks to the server."""
        return self._reached.client

    async def turn_to_cluster(self) -> None:
        """The server is one node of a cluster."""
        await self._reached.turn_to_cluster()

    async def lost_touch(self) -> None:
        """A connection broke."""
        await self._reached.lost_touch()

    @or_unavailable
    async def positions(self, places: Sequence[Place]) -> list[Position]:
        """All consumers that were ever seen in these partitions, by partition and name."""
        found = []
        unknown: list[tuple[Place, str, int]] = []
        for some in _slices(places):
            pipe = self.client.pipeline(transaction=False)
            for place in some:
                pipe.xinfo_groups(self._keys.partition(place))
            for place, groups in zip(some, await _answers(pipe), strict=True):
                for group in groups or ():
                    consumer, read = group["name"].decode(), group["entries-read"] or 0
                    if group["lag"] is None:
                        unknown.append((place, consumer, read))
                    else:
                        found.append(Position(consumer, place, read, group["lag"]))
        for some_unknown in _slices(unknown):
            pipe = self.client.pipeline(transaction=False)
            for place, _, _ in some_unknown:
                pipe.xinfo_stream(self._keys.partition(place))
            for (place, consumer, read), info in zip(some_unknown, await _answers(pipe), strict=True):
                found.append(Position(consumer, place, read, max(0, info["entries-added"] - read) if info else 0))
        return sorted(found, key=lambda position: (position.place, position.consumer))

    @or_unavailable
    async def tallies(
        self, owned: Sequence[tuple[str, int]], chains: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> list[Tally]:
        """One for each of these stages and partitions.

        Args:
            chains: stages that run in the task of another one, by that one's name.
        """
        found = []
        for some in _slices(owned):
            pipe = self.client.pipeline(transaction=False)
            for stage, partition in some:
                pipe.get(self._keys.owned(stage, partition, "lease"))
                pipe.hmget(self._keys.owned(stage, partition, "offsets"), ["~outputs", "~late"])
                pipe.hmget(
                    self._keys.owned(stage, partition, "state"),
                    [EVICTED_ROW, *(following(each, EVICTED_ROW) for each in chains.get(stage, ()))],
                )
            answers = await _answers(pipe)
            told = zip(some, answers[::3], answers[1::3], answers[2::3], strict=True)
            for (stage, partition), token, (outputs, late), evicted in told:
                owner = token.decode().partition(" ")[2] if token else None
                dropped = dict(evicted_of(evicted[0]))
                for each, row in zip(chains.get(stage, ()), evicted[1:], strict=True):
                    dropped.update((f"{each}/{table}", bounds) for table, bounds in evicted_of(row).items())
                found.append(Tally(stage, partition, owner, int(outputs or 0), int(late or 0), dropped))
        return found

    @or_unavailable
    async def report(self, worker: str, report: Report, ttl_s: float) -> None:
        """Let others know how a worker is, for so long."""
        await self.client.set(self._keys.report(worker), orjson.dumps(asdict(report)), px=int(ttl_s * 1000))

    @or_unavailable
    async def withdraw(self, worker: str) -> None:
        """Forget what a worker said."""
        await self.client.delete(self._keys.report(worker))

    @or_unavailable
    async def reports(self) -> dict[str, Report]:
        """What live workers said last, by worker."""
        names: Any = await self.client.zrange(self._keys.workers, 0, -1)
        workers = [name.decode() for name in names]
        pipe = self.client.pipeline(transaction=False)
        for worker in workers:
            pipe.get(self._keys.report(worker))
        answers = await _answers(pipe) if workers else []
        return {worker: Report(**orjson.loads(said)) for worker, said in zip(workers, answers, strict=True) if said}


async def keep_reporting(
    oversight: Oversight, worker: str, look: Callable[[], Report], *, every_s: float = REPORT_EVERY_S
) -> None:
    """Tell how a worker is until cancelled; raises ``MeshUnavailableError`` when the mesh is away."""
    try:
        while True:
            await oversight.report(worker, look(), 3 * every_s)
            await asyncio.sleep(every_s)
    finally:
        with suppress(MeshUnavailableError):
            await oversight.withdraw(worker)


async def introduce(redis: Redis, keys: Keys, stage: str, place: Place, info: Mapping[str, Any] | None) -> None:
    """Let every tool see a stage that has not committed anything yet, at the beginning of what is there.

    Args:
        info: the answer of ``XINFO STREAM``; None when there is no such stream.
    """
    gone = 0 if info is None else info["entries-added"] - info["length"]
    with suppress(ResponseError):  # it is known already; or the server is full, and the first commit will do it
        await redis.xgroup_create(keys.partition(place), stage, id="0", mkstream=True, entries_read=gone)


async def _answers(pipe: Any) -> list[Any]:
    """What a pipeline answers, with None for a stream there is not."""
    answers: list[Any] = await pipe.execute(raise_on_error=False)
    for number, answer in enumerate(answers):
        if isinstance(answer, ResponseError) and str(answer) == _NO_STREAM:
            answers[number] = None
        elif isinstance(answer, Exception):
            raise answer
    return answers


def _slices(many: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(many), _AT_ONCE):
        yield many[first : first + _AT_ONCE]
