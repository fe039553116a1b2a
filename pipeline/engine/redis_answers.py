"""What answers of a Redis server mean to the mesh: a record's fields, a refused commit, a server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import (
    ClusterDownError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pipeline.engine.acknowledged import WHAT_TO_DO
from pipeline.engine.mesh import FencedError, Lease, LostWritesError, MeshUnavailableError
from pipeline.engine.outage import Outage
from pipeline.engine.record import Place, RestoredPart
from pipeline.engine.server_check import ClusterMetError
from topology.errors import AiopsError

_WRITING = {"publish", "claim", "claim_all", "join", "commit", "record_answer"}
_REFUSES_WRITES = ("MISCONF", "NOREPLICAS", "READONLY")
_AWAY = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "UNBLOCKED")

_CLUSTER_AWAY = (ClusterDownError, ClusterError, RedisClusterException)


class Reached(Protocol):
    """Somebody who talks to a server, or to a cluster of them."""

    outage: Outage

    @property
    def client(self) -> Redis:
        """With what."""

    async def turn_to_cluster(self) -> None:
        """The server is one node of a cluster."""

    async def lost_touch(self) -> None:
        """A connection broke."""


S = TypeVar("S", bound=Reached)
P = ParamSpec("P")
T = TypeVar("T")

_Method = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]


def or_unavailable(method: _Method[S, P, T]) -> _Method[S, P, T]:
    """Tell what may succeed later from what never will, and keep the mesh's outage up to date."""
    writing = method.__name__ in _WRITING

    @wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task is not None else 0
        try:
            answer = await method(self, *args, **kwargs)
            if task is not None and task.cancelling() > cancelled_before:
                # The client waits with asyncio.wait_for, which before Python 3.12 may swallow that it was cancelled.
                raise asyncio.CancelledError
        except ClusterMetError:
            await self.turn_to_cluster()
            return await call(self, *args, **kwargs)
        except (RedisConnectionError, RedisTimeoutError, OSError, *_CLUSTER_AWAY) as error:
            if isinstance(error.__cause__, AiopsError):  # what was found out when a node of a cluster was met
                raise error.__cause__ from None
            self.outage.failed("away", str(error))
            await self.lost_touch()
            msg = f"Redis did not take the call: {error}"
            raise MeshUnavailableError(msg) from error
        except ResponseError as error:
            refuses = isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(_REFUSES_WRITES)
            if refuses or str(error).startswith(_AWAY):
                self.outage.failed("refuses writes" if refuses else "away", str(error))
                msg = f"Redis did not take the call: {error}"
                raise MeshUnavailableError(msg) from error
            raise
        if not any(isinstance(each, list | tuple | dict) and not each for each in args):
            self.outage.worked(writing=writing)  # who asked about nothing has not reached the server
        return answer

    return call


def outcome_of(lease: Lease, result: Any) -> FencedError | None:
    """Whether a commit took effect; raises what it met instead, when that is no fence."""
    if isinstance(result, ResponseError) and "FENCED" in str(result):
        return fenced(lease)
    if isinstance(result, ResponseError) and "LOST" in str(result):
        msg = f"{lease.stage}/{lease.partition} cannot commit: {str(result).removeprefix('LOST ')}. {WHAT_TO_DO}"
        raise LostWritesError(msg)
    if isinstance(result, Exception):
        raise result
    return None


def fenced(lease: Lease) -> FencedError:
    """Why a lease has no effect any more."""
    msg = f"token {lease.token!r} of {lease.stage}/{lease.partition} has expired or was passed on; drop the partition"
    return FencedError(msg)


def part_of(scanned: tuple[int, dict[bytes, bytes]]) -> RestoredPart:
    """Rows of a state, out of an answer of ``HSCAN``."""
    more, rows = scanned
    return RestoredPart({row.decode(): value for row, value in rows.items()}, more)


def fields_of(fields: list[bytes] | None) -> tuple[bytes, bytes, bytes]:
    """Of an entry somebody else wrote, which may lack our fields; stages pass it over, a sink cannot decode it."""
    found = dict(zip(*[iter(fields or ())] * 2, strict=False))
    return found.get(b"k", b""), found.get(b"t", b""), found.get(b"e", b"")


def text(found: bytes) -> str:
    """Bytes of whoever wrote them."""
    return str(found, "utf-8", "replace")


kind_of = lru_cache(maxsize=1024)(text)
"""An event type, of which there are few."""


def field_of(place: Place) -> str:
    """Where a stage's offset in a partition stands."""
    return f"{place[0]}/{place[1]}"
