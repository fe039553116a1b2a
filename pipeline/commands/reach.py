"""How a verb that needs one server reaches it: the one that is set, or the embedded one, joined or started.

``aiops run`` needs both at once and has its own way (``pipeline.assembly``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.engine.mesh import MeshUnavailableError
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.knowledge.connections import Pool, open_pool
from pipeline.knowledge.migrate import migrate
from pipeline.servers import ServerName, acquire
from pipeline.settings import Settings
from topology.errors import RetryableError


@asynccontextmanager
async def reached_mesh(chosen: Settings) -> AsyncIterator[RedisMesh]:
    """The mesh of the settings.

    Raises:
        ServersError: none is set, and an embedded one cannot run here.
        MeshUnavailableError: it does not answer; with what to look at.
    """
    set_url = chosen.redis_url.get_secret_value() if chosen.redis_url else None
    async with _url(chosen, "redis", set_url) as url:
        mesh = RedisMesh.connect(url, chosen.namespace)
        mesh.outage.quiet = True
        try:
            yield mesh
        except MeshUnavailableError as error:
            raise MeshUnavailableError(_what_to_look_at(error, "REDIS_URL")) from error
        finally:
            await mesh.close()


@asynccontextmanager
async def reached_database(chosen: Settings) -> AsyncIterator[Pool]:
    """The knowledge's database; the schema of an embedded one is brought up to date.

    Raises:
        ServersError: none is set, and an embedded one cannot run here.
        RetryableError: it does not answer; with what to look at.
    """
    set_url = chosen.database_url.get_secret_value() if chosen.database_url else None
    async with _url(chosen, "postgres", set_url) as url:
        if set_url is None:
            await migrate(url)  # nobody else may have been here yet
        pool = await open_pool(url)
        try:
            yield pool
        except RetryableError as error:
            raise RetryableError(_what_to_look_at(error, "DATABASE_URL")) from error
        finally:
            await pool.close()


def has_knowledge(chosen: Settings) -> bool:
    """Whether there can be anything to read; False where nothing ever ran, so that asking starts no server."""
    return chosen.database_url is not None or (chosen.state_dir / "postgres" / "data").exists()


def _what_to_look_at(error: Exception, variable: str) -> str:
    return f"{str(error).rstrip('.')}; does what {variable} names run? `aiops doctor` looks"


@asynccontextmanager
async def _url(chosen: Settings, name: ServerName, set_url: str | None) -> AsyncIterator[str]:
    if set_url is not None:
        yield set_url
        return
    lease = await asyncio.to_thread(acquire, chosen.state_dir, need=frozenset({name}))
    try:
        yield (lease.redis_url if name == "redis" else lease.database_url) or ""
    finally:
        lease.close()
