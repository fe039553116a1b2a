"""The schema is brought up to date once, by whoever comes first, and never guessed at."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
import pytest

from pipeline.knowledge.connections import open_pool
from pipeline.knowledge.migrate import Migration, SchemaError, migrate, shipped_migrations
from pipeline.sinks.postgres import KnowledgeSink
from tests.pipeline.knowledge.telling import PROVIDER, embed
from topology.errors import ConfigurationError, RetryableError

pytestmark = pytest.mark.servers

NAMES = tuple(step.name for step in shipped_migrations())

_MIGRATE = """
import asyncio, sys
from pipeline.knowledge.migrate import migrate
print(len(asyncio.run(migrate(sys.argv[1]))))
"""


async def test_everything_is_applied_once_in_order(fresh_database_url: str) -> None:
    assert await migrate(fresh_database_url) == NAMES
    assert await migrate(fresh_database_url) == ()


def test_versions_count_from_one_without_gaps() -> None:
    assert [step.version for step in shipped_migrations()] == list(range(1, len(NAMES) + 1))


def test_the_checksum_does_not_depend_on_the_line_ends_of_a_checkout() -> None:
    step = shipped_migrations()[0]
    assert replace(step, sql=step.sql.replace("\n", "\r\n")).checksum == step.checksum


async def test_of_four_processes_that_start_at_once_one_migrates_and_all_succeed(fresh_database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _MIGRATE, fresh_database_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    answers = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(int(out) for out, _ in answers) == [0, 0, 0, len(NAMES)]


async def test_a_migration_that_fails_leaves_nothing_and_the_next_try_goes_on_from_there(
    fresh_database_url: str,
) -> None:
    good = Migration(1, "001_good.sql", "CREATE TABLE good (id integer)")
    bad = Migration(2, "002_bad.sql", "CREATE TABLE half_done (id integer); SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(fresh_database_url, [good, bad])
    mended = replace(bad, sql="CREATE TABLE half_done (id integer)")
    assert await migrate(fresh_database_url, [good, mended]) == ("002_bad.sql",)


async def test_a_schema_newer_than_the_code_is_refused(fresh_database_url: str) -> None:
    await migrate(fresh_database_url)
    with pytest.raises(SchemaError, match="newer release"):
        await migrate(fresh_database_url, shipped_migrations()[:-1])


async def test_a_migration_edited_after_it_was_applied_is_refused(fresh_database_url: str) -> None:
    first = Migration(1, "001_first.sql", "CREATE TABLE first (id integer)")
    await migrate(fresh_database_url, [first])
    with pytest.raises(SchemaError, match="put the change into a new migration"):
        await migrate(fresh_database_url, [replace(first, sql="CREATE TABLE first (id bigint)")])


async def test_a_pgvector_that_damages_indexes_is_refused_with_the_way_out(fresh_database_url: str) -> None:
    connection = await asyncpg.connect(fresh_database_url)
    await connection.execute("CREATE EXTENSION vector")
    # What a database looks like whose server was upgraded and whose extension was not.
    await connection.execute("UPDATE pg_extension SET extversion = '0.8.2' WHERE extname = 'vector'")
    await connection.close()
    with pytest.raises(SchemaError, match=r"pgvector 0\.8\.2, expected >= 0\.8\.3.*ALTER EXTENSION vector UPDATE"):
        await migrate(fresh_database_url)


async def test_a_sink_refuses_a_database_that_was_not_migrated(fresh_database_url: str) -> None:
    connection = await asyncpg.connect(fresh_database_url)
    await connection.execute("CREATE EXTENSION vector")
    await connection.close()
    pool = await open_pool(fresh_database_url)
    with pytest.raises(ConfigurationError, match="migrations"):
        await KnowledgeSink(pool, embed=embed, provider=PROVIDER).open()
    await pool.close()


async def test_a_database_without_the_vector_type_is_named_as_not_migrated(fresh_database_url: str) -> None:
    pool = await open_pool(fresh_database_url)
    with pytest.raises(ConfigurationError, match="run the migrations"):
        await KnowledgeSink(pool, embed=embed, provider=PROVIDER).open()
    await pool.close()


async def test_a_server_that_is_away_is_worth_another_try() -> None:
    with pytest.raises(RetryableError, match="bring the schema up to date"):
        await migrate("postgresql://somebody@127.0.0.1:1/nowhere")


async def test_a_database_that_does_not_exist_is_a_matter_of_configuration(database_url: str) -> None:
    wrong = urlsplit(database_url)._replace(path="/no_such_database").geturl()
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        await migrate(wrong)


async def test_a_url_that_is_none_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        await migrate("mysql://somewhere/else")
