"""The schema of the knowledge, brought up to date.

Migrations are the files `migrations/NNN_name.sql`, applied in order, each in a transaction of its own, and recorded with their
checksum. What has been released is never edited: a change is a new file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import asyncpg

from pipeline.knowledge.connections import CONNECT_TIMEOUT_S, Connection, failures_explained
from topology.errors import ConfigurationError

PGVECTOR_MIN = (0, 8, 3)
"""Older ones corrupt an HNSW index in vacuum (below 0.8.3) or overflow in its parallel build (CVE-2026-3172, below 0.8.2)."""

# Any constant will do, as long as nobody else in this database uses it.
_MIGRATIONS_LOCK = 0x41494F50534D4947
_LOCK_WAIT = "60s"
_FILE_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql")

_RECORD_OF_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class SchemaError(ConfigurationError):
    """The database's schema or its pgvector does not fit this release; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema; `version` counts from 1 without gaps."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, whatever line ends the checkout has."""
        return sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def shipped_migrations() -> tuple[Migration, ...]:
    """The migrations of this release, in order."""
    found = []
    for entry in sorted(files("pipeline.knowledge.migrations").iterdir(), key=lambda entry: entry.name):
        match = _FILE_NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    return tuple(found)


async def migrate(database_url: str, migrations: Sequence[Migration] | None = None) -> tuple[str, ...]:
    """Bring the schema up to date; returns the names of the migrations that were applied now.

    Any number of processes may call it at once: one works, the others wait for it and find nothing left to do.

    Raises:
        SchemaError: pgvector is missing or too old, the schema is newer than this release, or an applied migration was edited.
        RetryableError: the database is away, or another process holds the lock for more than a minute.
        ConfigurationError: the URL, the password or the role's rights are wrong.
    """
    steps = shipped_migrations() if migrations is None else migrations
    with failures_explained("bring the schema up to date"):
        connection = await asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT_S)
        try:
            await connection.execute("SELECT set_config('lock_timeout', $1, false)", _LOCK_WAIT)
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATIONS_LOCK)
            await _require_pgvector(connection)
            await connection.execute(_RECORD_OF_MIGRATIONS)
            pending = await _pending(connection, steps)
            for step in pending:
                await _apply(connection, step)
        finally:
            # Closing the session gives the lock back, also after an error.
            await connection.close(timeout=CONNECT_TIMEOUT_S)
    return tuple(step.name for step in pending)


async def require_current_schema(connection: Connection) -> None:
    """Check, without changing anything, that the schema is the one this release was written for.

    Raises:
        SchemaError: it is older, newer, or was made by other migrations.
    """
    pending = await _pending(connection, shipped_migrations())
    if pending:
        msg = f"found a schema without {pending[0].name}, expected all migrations applied; run `aiops run` or `migrate` once"
        raise SchemaError(msg)


async def _require_pgvector(connection: Connection) -> None:
    wanted = ".".join(map(str, PGVECTOR_MIN))
    available = await connection.fetchval("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    if available is None:
        msg = f"found a PostgreSQL server without pgvector, expected pgvector >= {wanted}; install it on the server"
        raise SchemaError(msg)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    installed = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if _version(installed) >= PGVECTOR_MIN:
        return
    way_out = (
        "run ALTER EXTENSION vector UPDATE in this database"
        if _version(available) >= PGVECTOR_MIN
        else "install a newer pgvector on the server, then run ALTER EXTENSION vector UPDATE"
    )
    msg = f"found pgvector {installed}, expected >= {wanted} (older ones damage indexes); {way_out}"
    raise SchemaError(msg)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


async def _pending(connection: Connection, steps: Sequence[Migration]) -> list[Migration]:
    rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
    known = {step.version: step for step in steps}
    for row in rows:
        step = known.get(row["version"])
        if step is None:
            msg = (
                f"found migration {row['name']} in the database, expected none after {max(known, default=0):03}; "
                "a newer release has used this database: run that release, or restore a backup"
            )
            raise SchemaError(msg)
        if step.checksum != row["checksum"]:
            msg = (
                f"found migration {step.name} changed since it was applied (as {row['name']}); "
                "restore the file, and put the change into a new migration"
            )
            raise SchemaError(msg)
    applied = {row["version"] for row in rows}
    return [step for step in steps if step.version not in applied]


async def _apply(connection: Connection, step: Migration) -> None:
    async with connection.transaction():
        await connection.execute(step.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            step.version,
            step.name,
            step.checksum,
        )
