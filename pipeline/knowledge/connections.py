"""How Postgres is reached: the pool with its codecs, and which of its failures mean "try again"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from pgvector.asyncpg import register_vector

from topology.errors import ConfigurationError, PoisonedEventError, RetryableError

# asyncpg-stubs makes these generic in the record class; at run time they are not.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PoolConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

CONNECTIONS_MAX = 4
HELD_WITHIN_S = 15.0
"""How long a connection may be held before it is torn down."""
CONNECT_TIMEOUT_S = 5.0

# SQLSTATE classes and codes after which the same call may succeed: the server went away or is starting, ran out of something,
# gave up a transaction, waited too long for a lock, or is a standby that has not been promoted yet.
_RETRYABLE_STATES = ("08", "40", "53", "55P03", "57", "58", "25006", "25P03")
# The data cannot be stored as it is, now or later.
_REFUSED_STATES = ("22", "23", "54")
# Only a person can help: wrong name, wrong password, no such database, no permission, no such table.
_CONFIGURATION_STATES = ("28", "3D", "3F", "42501", "42P01", "42703", "42883")


async def open_pool(database_url: str, *, connections_max: int = CONNECTIONS_MAX) -> Pool:
    """A pool for the knowledge; it connects when first used, so a store that is away does not stop a start.

    Run `pipeline.knowledge.migrate.migrate` first: a connection needs the types the migrations create. A URL that cannot be
    understood is found with the first use, too.
    """
    pool: Pool = await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections_max,
        init=_prepare,
        timeout=CONNECT_TIMEOUT_S,
        server_settings={
            "application_name": "aiops",
            # A filtered search goes on through the index until it has found enough.
            "hnsw.iterative_scan": "strict_order",
            # A writer that is gone without a word holds up all others no longer than this.
            "idle_in_transaction_session_timeout": "15s",
            "lock_timeout": "8s",
        },
    )
    return pool


@asynccontextmanager
async def borrowed(pool: Pool, doing: str, *, within_s: float = HELD_WITHIN_S) -> AsyncIterator[PoolConnection]:
    """A connection for a while; failures of what is done with it are explained as by `failures_explained`.

    Held for longer than `within_s`, it is torn down, which makes whatever waits for it fail. Cancelling is no substitute: asyncpg
    then asks the server to cancel and waits for its answer, for ever when the server is frozen.

    Raises:
        RetryableError: also when there is no connection, or no answer, within `within_s`.
    """
    with failures_explained(doing):
        async with pool.acquire(timeout=within_s) as connection:
            deadline = asyncio.get_running_loop().call_later(within_s, connection.terminate)
            try:
                yield connection
            finally:
                deadline.cancel()


class UnstorableDataError(PoisonedEventError):
    """Postgres will never take this data: out of range, too long for an index, not of the column's type."""


@contextmanager
def failures_explained(doing: str) -> Iterator[None]:
    """Turn what Postgres, asyncpg and the network raise into errors that say what the caller should do.

    Everything else passes unchanged: it is a mistake of ours.

    Args:
        doing: what was attempted, for the message: "recall a problem".

    Raises:
        RetryableError: the store is away, busy or gave up; nothing of an open transaction was kept.
        UnstorableDataError: the same data will be refused again.
        ConfigurationError: the settings or the schema are wrong.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state.startswith(_RETRYABLE_STATES):
            raise RetryableError(_explain(doing, error)) from error
        if state.startswith(_CONFIGURATION_STATES):
            msg = f"{_explain(doing, error)}; check DATABASE_URL, the role's rights and whether the migrations ran"
            raise ConfigurationError(msg) from error
        if state.startswith(_REFUSED_STATES):
            raise UnstorableDataError(_explain(doing, error)) from error
        raise
    except asyncpg.ClientConfigurationError as error:
        msg = f"{_explain(doing, error)}; expected DATABASE_URL like postgresql://user:password@host/database"
        raise ConfigurationError(msg) from error
    except asyncpg.InterfaceError as error:
        # asyncpg says with one class "the connection is closed" and, as a ValueError, "this argument is wrong".
        if isinstance(error, ValueError):
            raise UnstorableDataError(_explain(doing, error)) from error
        raise RetryableError(_explain(doing, error)) from error
    except (OSError, TimeoutError, asyncpg.InternalClientError) as error:
        raise RetryableError(_explain(doing, error)) from error


def _explain(doing: str, error: BaseException) -> str:
    return f"could not {doing}: Postgres: {type(error).__name__}: {error}"


def without_nul(text: str) -> str:
    """The text with NUL characters, which Postgres cannot store, replaced by U+FFFD."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}") if "\x00" in text else text


def _json_text(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return orjson.dumps(_json_without_nul(value)).decode() if "\\u0000" in text else text


def _json_without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, dict):
        return {without_nul(name): _json_without_nul(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json_without_nul(inner) for inner in value]
    return value


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.set_type_codec("jsonb", encoder=_json_text, decoder=orjson.loads, schema="pg_catalog")
    try:
        await register_vector(connection)
    except ValueError as error:
        msg = "found no type vector in schema public; run the migrations (`aiops run` does) before using the knowledge"
        raise ConfigurationError(msg) from error
