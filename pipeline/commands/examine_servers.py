"""What ``aiops doctor`` finds about servers: which, where, why, and whether they are set up as they must be.

Nothing is started: an embedded server that does not run is only described.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from pipeline.commands.found import Found, Status
from pipeline.engine.server_check import ServerFacts, findings, look_at, lost_writes
from pipeline.knowledge.connections import failures_explained
from pipeline.knowledge.migrate import PGVECTOR_MIN, SchemaError, require_current_schema
from pipeline.security.masking import mask_text
from pipeline.servers import ServerInfo, ServerLease, ServerName, ServerProblem, ServersError, acquire, inspect
from pipeline.settings import Settings
from topology.errors import AiopsError

ANSWER_WITHIN_S = 5.0
_LOSSES_SHOWN_MAX = 5

_VECTOR = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
_VECTOR_AVAILABLE = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"


async def examine_servers(chosen: Settings) -> AsyncIterator[Found]:
    """The mesh's server, then the knowledge's."""
    embedded = await asyncio.to_thread(_embedded_servers, chosen)
    if chosen.redis_url is not None:
        url = chosen.redis_url.get_secret_value()
        yield Found("redis", "ok", f"{mask_text(url)}, set by REDIS_URL")
        async for found in examine_mesh(url, chosen):
            yield found
    else:
        async for found in _embedded("redis", embedded["redis"], chosen):
            yield found
    if chosen.database_url is not None:
        url = chosen.database_url.get_secret_value()
        yield Found("postgres", "ok", f"{mask_text(url)}, set by DATABASE_URL")
        yield await postgres_answers(url)
    else:
        async for found in _embedded("postgres", embedded["postgres"], chosen):
            yield found


async def examine_mesh(url: str, chosen: Settings) -> AsyncIterator[Found]:
    """Whether the server can be the mesh: reachable, new enough, never forgets, writes to disk; and did it lose any?"""
    try:
        async with Redis.from_url(url, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=ANSWER_WITHIN_S) as redis:
            facts = await look_at(redis)
            yield _fitness(facts, chosen)
            if not facts.clustered:
                yield await _losses(redis, chosen.namespace)
                return
        async with RedisCluster.from_url(url, socket_timeout=ANSWER_WITHIN_S, protocol=2) as cluster:
            yield await _losses(cluster, chosen.namespace)
    except (RedisError, RedisClusterException, OSError, ValueError) as error:
        yield Found("redis answers", "problem", f"no: {error}", "start the server, or mend REDIS_URL")


def _fitness(facts: ServerFacts, chosen: Settings) -> Found:
    found = findings(facts, require_persistence=chosen.require_persistence)
    if not found:
        return Found("redis answers", "ok", str(facts))
    status: Status = "problem" if any(finding.severity == "error" for finding in found) else "warning"
    return Found("redis answers", status, str(facts), "; ".join(f"{each.what}: {each.remedy}" for each in found))


async def _losses(redis: Redis | RedisCluster, namespace: str) -> Found:
    lost = await lost_writes(redis, namespace)
    if not lost:
        return Found("redis data", "ok", f"what stages of {namespace!r} have read is there")
    shown = "; ".join(lost[:_LOSSES_SHOWN_MAX]) + (
        f"; and {more} more" if (more := len(lost) - _LOSSES_SHOWN_MAX) > 0 else ""
    )
    remedy = (
        "the server lost writes: restore its data; or accept the loss and set the stage back by deleting both fields, "
        "<stream>/<p> and <stream>/<p>#, from its hash {<namespace>:<p>}:t:<stage>:<p>:offsets"
    )
    return Found("redis data", "problem", shown, remedy)


async def postgres_answers(url: str) -> Found:
    """Whether the server can hold the knowledge: reachable, pgvector works on this processor, the schema is ours."""
    try:
        with failures_explained("ask the database"):
            connection = await asyncpg.connect(url, timeout=ANSWER_WITHIN_S, command_timeout=ANSWER_WITHIN_S)
            try:
                return await _examine_database(connection)
            finally:
                await connection.close(timeout=ANSWER_WITHIN_S)
    except AiopsError as error:
        return Found("postgres answers", "problem", f"no: {error}", "start the server, or mend DATABASE_URL")


async def _examine_database(connection: asyncpg.Connection[asyncpg.Record]) -> Found:
    what = f"PostgreSQL {connection.get_server_version().major}"
    vector = await connection.fetchval(_VECTOR)
    if vector is None:
        available = await connection.fetchval(_VECTOR_AVAILABLE)
        if available is None:
            remedy = f"install pgvector {'.'.join(map(str, PGVECTOR_MIN))} or later on the server"
            return Found("postgres answers", "problem", f"{what} without pgvector", remedy)
        return Found("postgres answers", "ok", f"{what}, pgvector {available} ready; the schema is made by `aiops run`")
    what = f"{what}, pgvector {vector}"
    if _numbers(vector) < PGVECTOR_MIN:
        return Found("postgres answers", "problem", what, "older ones damage indexes: ALTER EXTENSION vector UPDATE")
    # Also a probe of the processor: the library may be built for a newer one and die here.
    await connection.fetchval("SELECT '[1,2,3]'::vector <=> '[3,2,1]'::vector")
    try:
        await require_current_schema(connection)
    except (SchemaError, asyncpg.UndefinedTableError) as error:
        return Found(
            "postgres answers", "warning", f"{what}, schema not up to date", f"`aiops run` updates it: {error}"
        )
    return Found("postgres answers", "ok", f"{what} works on this processor, schema up to date")


def _embedded_servers(chosen: Settings) -> dict[ServerName, ServerInfo | ServerProblem]:
    try:
        return {each.name: each for each in inspect(chosen.state_dir)}
    except NotADirectoryError as error:
        what = f"{error.filename} is not in a directory; set AIOPS_STATE_DIR to one"
        names: tuple[ServerName, ...] = ("redis", "postgres")
        return {name: ServerProblem(name, what) for name in names}


async def _embedded(name: ServerName, seen: ServerInfo | ServerProblem, chosen: Settings) -> AsyncIterator[Found]:
    if isinstance(seen, ServerProblem):
        yield Found(name, "problem", seen.what)
        return
    what = f"embedded {seen.engine} {seen.version} ({seen.why})"
    if seen.pid is None:
        yield Found(name, "ok", f"{what}, not running; its data is in {seen.data_dir}, it starts when it is needed")
        return
    memory = f", {seen.memory_bytes / 1e6:.0f} MB" if seen.memory_bytes else ""
    yield Found(name, "ok", f"{what}, pid {seen.pid}{memory}, {seen.where}")
    try:
        lease = await asyncio.to_thread(acquire, chosen.state_dir, need=frozenset({name}))
    except ServersError as error:
        yield Found(f"{name} answers", "problem", f"no: {error}")
        return
    with lease:
        async for found in _answers(name, lease, chosen):
            yield found


async def _answers(name: ServerName, lease: ServerLease, chosen: Settings) -> AsyncIterator[Found]:
    if name == "postgres":
        yield await postgres_answers(lease.database_url or "")
        return
    async for found in examine_mesh(lease.redis_url or "", chosen):
        yield found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
