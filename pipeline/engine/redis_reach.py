"""The way to the server of a mesh, or to the cluster it turns out to be a node of: clients, scripts, which calls go together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import Any, Self, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from pipeline.engine.acknowledged import Acknowledged
from pipeline.engine.cluster import ClusterCalls, connect_to_cluster
from pipeline.engine.keys import Keys
from pipeline.engine.outage import Outage
from pipeline.engine.outbox import by_slot
from pipeline.engine.record import SEQ_MAX, Offset
from pipeline.engine.redis_answers import or_unavailable
from pipeline.engine.server_check import Finding, ServerWatch

_SOCKET_TIMEOUT_S = 10.0
_CALLS_AT_ONCE = 16
_LUA = files("pipeline.engine") / "lua"
_SCRIPTS = ("publish", "claim", "renew", "release", "answer", "commit", "join", "leave", "forward")

T = TypeVar("T")


class RedisReach:
    """What the mesh talks through.

    Args:
        redis: a client that answers bytes (no ``decode_responses``), does not time out blocking reads, and never tries
            anything again on its own, for a commit whose answer was lost would be made twice; see ``connect``.
        namespace: begins every key, so that deployments and tests can share a server.
        acknowledged: what the server has acknowledged so far, when somebody else looks at it too.
        cluster: connects to the cluster that the server turns out to be a node of.

    Attributes:
        outage: whether the server answers and takes writes.
    """

    def __init__(
        self,
        redis: Redis,
        namespace: str = "aiops",
        acknowledged: Acknowledged | None = None,
        cluster: Callable[[], RedisCluster] | None = None,
    ) -> None:
        self._connect_to_cluster = cluster
        self._cluster: ClusterCalls | None = None
        self.keys = Keys(namespace)
        self.outage = Outage()
        self._acknowledged = Acknowledged(self.keys) if acknowledged is None else acknowledged
        # What hundreds may do at once: each call takes a connection, and without one the client says that it is away.
        self._many_at_once = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._use(redis)

    def _use(self, redis: Redis) -> None:
        self._redis = redis
        script = {path: redis.register_script((_LUA / f"{path}.lua").read_text()) for path in _SCRIPTS}
        self._publish, self._claim, self._renew = script["publish"], script["claim"], script["renew"]
        self._release, self._answer, self._commit = script["release"], script["answer"], script["commit"]
        self._join, self._leave, self._forward = script["join"], script["leave"], script["forward"]

    @classmethod
    def connect(
        cls,
        url: str,
        namespace: str = "aiops",
        *,
        require_persistence: bool = False,
        on_warning: Callable[[Finding], None] | None = None,
    ) -> Self:
        """A mesh on the server of a URL, or on the cluster one of whose nodes has it; connects when first used.

        Whenever a server is met that was not known, it is looked at first: a method may then also raise
        :class:`UnfitServerError` (it must not carry a mesh) or :class:`LostWritesError` (it forgot what it had taken).

        Args:
            require_persistence: a server that writes nothing to disk is unfit, and not just worth a warning.
            on_warning: told what should be different about the server.
        """
        acknowledged = Acknowledged(Keys(namespace))

        def watch(*, in_cluster: bool) -> ServerWatch:
            return ServerWatch(
                acknowledged, in_cluster=in_cluster, require_persistence=require_persistence, on_warning=on_warning
            )

        def cluster() -> RedisCluster:
            return connect_to_cluster(url, watch(in_cluster=True), socket_timeout_s=_SOCKET_TIMEOUT_S)

        redis = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=_SOCKET_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=watch(in_cluster=False).greet,
        )
        return cls(redis, namespace, acknowledged, cluster)

    @property
    def client(self) -> Redis:
        """What talks to the server; another one after ``turn_to_cluster``."""
        return self._redis

    @property
    def clustered(self) -> bool:
        """Whether it is on a cluster; not known before the first call that was answered."""
        return self._cluster is not None

    async def turn_to_cluster(self) -> None:
        """The server turned out to be a node of a cluster."""
        if self._cluster is None and self._connect_to_cluster is not None:
            redis = self._connect_to_cluster()
            # It has the same methods.  The other one has no connection: every one was broken off when it met the node.
            self._use(cast("Redis", redis))
            self._cluster = ClusterCalls(redis)

    async def lost_touch(self) -> None:
        """A connection broke."""
        if self._cluster is not None:
            await self._cluster.forget()

    @or_unavailable
    async def ping(self) -> None:
        """Meet the server, so that what is wrong with it is known before anything is done there."""
        await self._redis.ping()

    async def past(self) -> Offset:
        """An offset that has passed: what was put on a stream before the call lies up to it, and nothing else ever will.

        On a cluster what lies up to it may lack what came in the last moment, as long as its nodes' clocks differ.
        """
        present_ms = await self._now_ms()
        while await self._now_ms() == present_ms:
            pass  # within this millisecond more may come
        return Offset(present_ms, SEQ_MAX)

    @or_unavailable
    async def _now_ms(self) -> int:
        """The clock by which offsets are given; of several nodes that of the one furthest behind."""
        whom = {} if self._cluster is None else {"target_nodes": RedisCluster.PRIMARIES}
        told = await self._redis.execute_command("TIME", **whom)  # type: ignore[no-untyped-call]
        times = told.values() if isinstance(told, dict) else [told]
        return min(int(seconds) * 1000 + int(microseconds) // 1000 for seconds, microseconds in times)

    async def close(self) -> None:
        """Give back the connections."""
        if self._cluster is not None:
            await self._cluster.close()
        await self._redis.aclose()

    def _together(self, items: Sequence[T], most: int, partition: Callable[[T], int]) -> Iterable[Sequence[T]]:
        """What one call may be about."""
        for some in [items] if self._cluster is None else by_slot(items, partition):
            for first in range(0, len(some), most):
                yield some[first : first + most]

    async def _answers_to(self, packed: Sequence[bytes]) -> list[Any]:
        """What a pipeline does, but with commands in the form they are sent in; the client takes long to make it."""
        pool = self._redis.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(packed)
            answers: list[Any] = []
            for _ in packed:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
            return answers
        except BaseException:
            await connection.disconnect(nowait=True)  # the answers that are still to come are nobody's
            raise
        finally:
            await pool.release(connection)
