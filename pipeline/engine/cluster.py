"""A Redis Cluster under the mesh: connecting to it, and what is different about calls that go to several of its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.cluster import ClusterPipeline, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from pipeline.engine.outbox import by_slot
from pipeline.engine.server_check import ServerWatch

_CONNECTIONS_MAX = 1_000
"""Per node; each slot that is waited for holds one."""

_NO_ANSWER = (AskError, ClusterDownError, MovedError, TryAgainError)

Positions = tuple[tuple[str, str], ...]
"""Streams of one slot, and after which offset each is read."""


class WholeCluster(RedisCluster):
    """A client whose pipelines fail as those of one server do."""

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        """Commands that are sent together; of ``transaction`` the library's form needs a thread per command.

        So what is read here in one transaction from one server is read in order, and something may come in between.
        That is no matter where it is used: a commit that was not known of when a state was restored has a number that
        refuses the next one, and one of another owner has a token that does.
        """
        return _Pipeline(self)  # type: ignore[abstract]  # so it is by the types of the library only


class _Pipeline(ClusterPipeline):
    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        answers: list[Any] = await super().execute(raise_on_error=False, allow_redirections=allow_redirections)
        for answer in answers:
            # A node that is away is no answer about a key; the library makes it one.
            refused = isinstance(answer, ResponseError) and not isinstance(answer, _NO_ANSWER)
            if isinstance(answer, Exception) and (raise_on_error or not refused):
                raise answer
        return answers


def connect_to_cluster(url: str, watch: ServerWatch, *, socket_timeout_s: float) -> RedisCluster:
    """A client for the cluster one of whose nodes has this URL.

    As with one server nothing is tried again on its own, redirections aside, which had no effect.
    """
    redis = WholeCluster.from_url(
        url,
        protocol=2,
        socket_timeout=socket_timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=_CONNECTIONS_MAX,
        # Learning the whole layout anew every few redirections would break the connections of everybody's calls.
        reinitialize_steps=0,
    )
    # The client has no argument for this, but hands everything in here to each connection.
    for about in (redis.nodes_manager.connection_kwargs, *(node.connection_kwargs for node in redis.startup_nodes)):
        about["redis_connect_func"] = watch.greet
    redis.response_callbacks.pop("XREAD", None)  # no dictionary of each entry is wanted
    return redis


class ClusterCalls:
    """Calls that one server answers at once, and a cluster node by node."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._waiting: dict[tuple[Positions, int], asyncio.Task[Any]] = {}

    async def each(self, commands: Sequence[tuple[int, tuple[Any, ...]]]) -> list[Any]:
        """Answers to commands that come with the partition they concern; those of one slot one after the other.

        A command that is refused has its error for an answer.
        """
        answers: list[Any] = [None] * len(commands)

        async def in_order(numbers: Sequence[int]) -> None:
            for number in numbers:
                try:
                    answers[number] = await self._redis.execute_command(*commands[number][1])
                except ResponseError as error:
                    answers[number] = error

        await all_of(in_order(numbers) for numbers in by_slot(range(len(commands)), lambda n: commands[n][0]))
        return answers

    async def read(self, slots: Sequence[Positions], *, count: int, block_ms: int) -> list[Any]:
        """What ``XREAD`` answers, of all slots together; waits until there is something in one of them.

        A read that waits in a slot in vain goes on waiting when this returns, for who reads next from the same position:
        to break it off would cost its connection, and nothing is consumed by it.
        """
        if block_ms == 0:
            found = await all_of(self._xread(positions, count, 0) for positions in slots)
            return [stream for streams in found for stream in streams]
        clock = asyncio.get_running_loop()
        until_s = clock.time() + block_ms / 1000
        while (left_ms := int((until_s - clock.time()) * 1000)) > 0:
            reading = [self._read(positions, count, left_ms) for positions in slots]
            await asyncio.wait(reading, timeout=left_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in reading if task.done()]
            if found := [stream for task in done for stream in task.result()]:
                return found
        return []

    async def close(self) -> None:
        """Break off what waits."""
        waiting = list(self._waiting.values())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def forget(self) -> None:
        """After an outage: whoever is the primary of a slot now is asked, and met, anew."""
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    def _read(self, positions: Positions, count: int, block_ms: int) -> asyncio.Task[Any]:
        name = positions, count
        task = self._waiting.get(name)
        if task is None:
            task = asyncio.create_task(self._xread(positions, count, block_ms))
            self._waiting[name] = task
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def _ended(self, name: tuple[Positions, int], task: asyncio.Task[Any]) -> None:
        if self._waiting.get(name) is task:
            del self._waiting[name]
        if not task.cancelled():
            task.exception()  # whoever waits for it sees it; nobody has to

    async def _xread(self, positions: Positions, count: int, block_ms: int) -> Any:
        await self._redis.initialize()
        streams = [stream for stream, _ in positions]
        block: list[str | int] = ["BLOCK", block_ms] if block_ms > 0 else []
        offsets = [offset for _, offset in positions]
        found = await self._redis.execute_command(
            "XREAD", "COUNT", count, *block, "STREAMS", *streams, *offsets,
            # Else the client asks a server which of these are keys.
            target_nodes=self._redis.get_node_from_key(streams[0]),
        )  # fmt: skip
        return found or []


async def all_of(calls: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """As ``gather``, but when it raises nothing goes on behind the caller's back."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
