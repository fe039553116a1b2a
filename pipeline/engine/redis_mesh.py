"""The mesh on Redis or Valkey, 7.0 or newer: one stream per partition, one Lua call per commit.

With one owner per partition a consumer group's pending list buys nothing, so records are read from the committed
offset with XREAD; the group's position is moved along inside the commit, for the lag that other tools show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import wraps
from importlib.resources import files
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pipeline.engine.acknowledged import COMMITS, WHAT_TO_DO, Acknowledged
from pipeline.engine.keys import Keys
from pipeline.engine.mesh import FencedError, Lag, Lease, LostWritesError, MeshUnavailableError
from pipeline.engine.outage import Outage
from pipeline.engine.outputs import LATE
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, Place, Record, Restored
from pipeline.engine.server_check import Finding, ServerWatch, missing

REMEMBERED_IDS = 10_000
_SOCKET_TIMEOUT_S = 10.0
_BLOCK_MAX_S = 5.0
_EVENTS_PER_CALL = 1_000
"""A script that appends holds up everybody else on the server for about five microseconds per event."""
_LATE: Place = (LATE.name, 0)
_LUA = files("pipeline.engine") / "lua"
_WRITING = {"publish", "claim", "join", "commit", "record_answer"}
_REFUSES_WRITES = ("MISCONF", "NOREPLICAS", "READONLY")
_AWAY = ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "UNBLOCKED")

P = ParamSpec("P")
T = TypeVar("T")

_Method = Callable[Concatenate["RedisMesh", P], Coroutine[Any, Any, T]]


def _or_unavailable(method: _Method[P, T]) -> _Method[P, T]:
    """Tell what may succeed later from what never will, and keep the mesh's outage up to date."""
    writing = method.__name__ in _WRITING

    @wraps(method)
    async def call(self: RedisMesh, /, *args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task is not None else 0
        try:
            answer = await method(self, *args, **kwargs)
            if task is not None and task.cancelling() > cancelled_before:
                # The client waits with asyncio.wait_for, which before Python 3.12 may swallow that it was cancelled.
                raise asyncio.CancelledError
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            self.outage.failed("away", str(error))
            msg = f"Redis did not take the call: {error}"
            raise MeshUnavailableError(msg) from error
        except ResponseError as error:
            refuses = isinstance(error, OutOfMemoryError | ReadOnlyError) or str(error).startswith(_REFUSES_WRITES)
            if refuses or str(error).startswith(_AWAY):
                self.outage.failed("refuses writes" if refuses else "away", str(error))
                msg = f"Redis did not take the call: {error}"
                raise MeshUnavailableError(msg) from error
            raise
        self.outage.worked(writing=writing)
        return answer

    return call


class RedisMesh:
    """Implements :class:`pipeline.engine.mesh.Mesh`.

    Args:
        redis: a client that answers bytes (no ``decode_responses``), does not time out blocking reads, and never tries
            anything again on its own, for a commit whose answer was lost would be made twice; see ``connect``.
        namespace: begins every key, so that deployments and tests can share a server.
        acknowledged: what the server has acknowledged so far, when somebody else looks at it too.

    Attributes:
        outage: whether the server answers and takes writes.
    """

    def __init__(self, redis: Redis, namespace: str = "aiops", acknowledged: Acknowledged | None = None) -> None:
        self._redis = redis
        self.keys = Keys(namespace)
        self.outage = Outage()
        self._acknowledged = Acknowledged(self.keys) if acknowledged is None else acknowledged
        script = {path: redis.register_script((_LUA / f"{path}.lua").read_text()) for path in _SCRIPTS}
        self._publish, self._claim, self._renew = script["publish"], script["claim"], script["renew"]
        self._release, self._answer, self._commit = script["release"], script["answer"], script["commit"]
        self._join = script["join"]

    @classmethod
    def connect(
        cls,
        url: str,
        namespace: str = "aiops",
        *,
        require_persistence: bool = False,
        on_warning: Callable[[Finding], None] | None = None,
    ) -> RedisMesh:
        """A mesh on the server of a URL; connects when first used.

        Whenever a server is met that was not known, it is looked at first: a method may then also raise
        :class:`UnfitServerError` (it must not carry a mesh) or :class:`LostWritesError` (it forgot what it had taken).

        Args:
            require_persistence: a server that writes nothing to disk is unfit, and not just worth a warning.
            on_warning: told what should be different about the server.
        """
        acknowledged = Acknowledged(Keys(namespace))
        watch = ServerWatch(acknowledged, require_persistence=require_persistence, on_warning=on_warning)
        redis = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=_SOCKET_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=watch.greet,
        )
        return cls(redis, namespace, acknowledged)

    @_or_unavailable
    async def ping(self) -> None:
        """Meet the server, so that what is wrong with it is known before anything is done there."""
        await self._redis.ping()

    @_or_unavailable
    async def publish(self, outputs: Sequence[Output]) -> int:
        new = 0
        for first in range(0, len(outputs), _EVENTS_PER_CALL):
            new += await self._publish_some(outputs[first : first + _EVENTS_PER_CALL])
        return new

    @_or_unavailable
    async def read(self, places: Mapping[Place, Offset], *, count: int, wait_s: float) -> list[Record]:
        names = {self.keys.partition(place).encode(): place for place in places}
        block = [b"BLOCK", max(1, int(min(wait_s, _BLOCK_MAX_S) * 1000))] if wait_s > 0 else []
        positions = [str(offset) for offset in places.values()]
        # By this name of the command the client hands over the answer as it came, and makes no dictionary of each entry.
        found: Any = await self._redis.execute_command(  # type: ignore[no-untyped-call]
            b"XREAD", b"COUNT", count, *block, b"STREAMS", *names, *positions
        )
        records: list[Record] = []
        for name, entries in found or ():
            stream, partition = names[name]
            for offset, fields in entries:
                try:
                    k, key, t, kind, e, value = fields
                except (TypeError, ValueError):  # trimmed away while it was read, or not ours
                    k = t = e = key = kind = value = b""
                if k != b"k" or t != b"t" or e != b"e":
                    key, kind, value = _fields_of(fields)
                records.append(Record(stream, partition, offset, _text(key), _text(kind), value))
        return records

    @_or_unavailable
    async def claim(self, stage: str, partition: int, owner: str, ttl_s: float) -> Lease | None:
        keys = [self.keys.owned(stage, partition, what) for what in ("lease", "tokens")]
        token = await self._claim(keys=keys, args=[owner, int(ttl_s * 1000)])
        return Lease(stage, partition, token.decode()) if token else None

    @_or_unavailable
    async def renew(self, leases: Iterable[Lease], ttl_s: float) -> list[Lease]:
        held = list(leases)
        if not held:
            return []
        keys = [self.keys.owned(lease.stage, lease.partition, "lease") for lease in held]
        lost = await self._renew(keys=keys, args=[int(ttl_s * 1000), *(lease.token for lease in held)])
        return [held[index - 1] for index in lost]

    @_or_unavailable
    async def release(self, lease: Lease) -> None:
        await self._release(keys=[self.keys.owned(lease.stage, lease.partition, "lease")], args=[lease.token])

    @_or_unavailable
    async def join(self, worker: str, ttl_s: float) -> list[str]:
        alive = await self._join(keys=[self.keys.workers], args=[worker, int(ttl_s * 1000)])
        return sorted(name.decode() for name in alive)

    @_or_unavailable
    async def leave(self, worker: str) -> None:
        await self._redis.zrem(self.keys.workers, worker)

    @_or_unavailable
    async def restore(self, lease: Lease, inputs: Sequence[Place]) -> Restored:
        pipe = self._redis.pipeline(transaction=True)
        for what in ("offsets", "state", "answers"):
            pipe.hgetall(self.keys.owned(lease.stage, lease.partition, what))
        for place in inputs:
            pipe.xinfo_stream(self.keys.partition(place))
        offsets, state, answers, *streams = await pipe.execute(raise_on_error=False)
        for failure in (offsets, state, answers):
            if isinstance(failure, Exception):
                raise failure
        restored = Restored(
            offsets={place: Offset.parse(offsets.get(_field(place).encode(), b"0-0")) for place in inputs},
            state={row.decode(): value for row, value in state.items()},
            answers={key.decode(): orjson.loads(value) for key, value in answers.items()},
        )
        self._acknowledged.restored(lease, int(offsets.get(COMMITS.encode(), 0)))
        for place, info in zip(inputs, streams, strict=True):
            read = int(offsets.get(f"{_field(place)}#".encode(), 0))
            if reason := missing(restored.offsets[place], read, None if isinstance(info, RedisError) else info):
                msg = f"{lease.stage} has committed {restored.offsets[place]} of {_field(place)}, but {reason}. {WHAT_TO_DO}"
                raise LostWritesError(msg)
        return restored

    @_or_unavailable
    async def commit(self, commits: Sequence[tuple[Lease, Commit]]) -> list[FencedError | None]:
        results = await self._evaluate(commits)
        forgotten = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if forgotten:  # the server restarted; what it did not run had no effect
            await self._redis.script_load(self._commit.script)
            again = await self._evaluate([commits[n] for n in forgotten])
            for n, result in zip(forgotten, again, strict=True):
                results[n] = result
        outcomes = [_outcome(lease, result) for (lease, _), result in zip(commits, results, strict=True)]
        for (lease, _), outcome in zip(commits, outcomes, strict=True):
            if outcome is None:
                self._acknowledged.committed(lease)
        return outcomes

    @_or_unavailable
    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        keys = [self.keys.owned(lease.stage, lease.partition, what) for what in ("lease", "answers")]
        try:
            await self._answer(keys=keys, args=[lease.token, key, answer])
        except ResponseError as error:
            raise _outcome(lease, error) or error from error

    @_or_unavailable
    async def lags(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Lag]:
        pipe = self._redis.pipeline(transaction=False)
        for stage, partition, place in consumers:
            pipe.hget(self.keys.owned(stage, partition, "offsets"), f"{_field(place)}#")
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

    @_or_unavailable
    async def committed(self, consumers: Sequence[tuple[str, int, Place]]) -> list[Offset]:
        pipe = self._redis.pipeline(transaction=False)
        for stage, partition, place in consumers:
            pipe.hget(self.keys.owned(stage, partition, "offsets"), _field(place))
        return [BEGINNING if found is None else Offset.parse(found) for found in await pipe.execute()]

    @_or_unavailable
    async def trim(self, place: Place, before: Offset) -> int:
        return int(await self._redis.xtrim(self.keys.partition(place), minid=str(before), approximate=False))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _publish_some(self, outputs: Sequence[Output]) -> int:
        index: dict[Place, int] = {}
        keys: list[str] = []
        args: list[Any] = [REMEMBERED_IDS]
        for output in outputs:
            place = output.stream, output.partition
            if place not in index:
                index[place] = len(index) + 1
                keys += [self.keys.partition(place), self.keys.seen(place), self.keys.seen_random(place)]
            kind = 1 if output.id.version == 5 else 2
            args += [index[place], kind, output.id.bytes, output.key, output.event_type, output.value]
        new, *last = await self._publish(keys=keys, args=args)
        for place, offset in zip(index, last, strict=True):
            if offset:
                self._acknowledged.published(place, offset)
        return int(new)

    async def _evaluate(self, commits: Sequence[tuple[Lease, Commit]]) -> list[Any]:
        calls = []
        for lease, commit in commits:
            keys, args = self._commit_call(lease, commit)
            calls.append(pack_command(("EVALSHA", self._commit.sha, len(keys), *keys, *args)))
        return await self._answers_to(calls)

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

    def _commit_call(self, lease: Lease, commit: Commit) -> tuple[list[str], list[Any]]:
        keys = [self.keys.owned(lease.stage, lease.partition, w) for w in ("lease", "state", "offsets", "answers")]
        before = self._acknowledged.commits_before(lease)
        args: list[Any] = [lease.token, lease.stage, "" if before is None else before, len(commit.outputs), 0]
        args.append(len(commit.offsets))
        for place, offset in commit.offsets.items():
            keys.append(self.keys.partition(place))
            args += [_field(place), str(offset), commit.records.get(place, 0)]
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


def _fields_of(fields: list[bytes] | None) -> tuple[bytes, bytes, bytes]:
    """Of an entry somebody else wrote, which may lack our fields; stages pass it over, a sink cannot decode it."""
    found = dict(zip(*[iter(fields or ())] * 2, strict=False))
    return found.get(b"k", b""), found.get(b"t", b""), found.get(b"e", b"")


def _text(found: bytes) -> str:
    return str(found, "utf-8", "replace")


def _field(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


_SCRIPTS = ("publish", "claim", "renew", "release", "answer", "commit", "join")


def _outcome(lease: Lease, result: Any) -> FencedError | None:
    if isinstance(result, ResponseError) and "FENCED" in str(result):
        msg = (
            f"token {lease.token!r} of {lease.stage}/{lease.partition} has expired or was passed on; drop the partition"
        )
        return FencedError(msg)
    if isinstance(result, ResponseError) and "LOST" in str(result):
        msg = f"{lease.stage}/{lease.partition} cannot commit: {str(result).removeprefix('LOST ')}. {WHAT_TO_DO}"
        raise LostWritesError(msg)
    if isinstance(result, Exception):
        raise result
    return None
