"""The environment becomes settings, or one clear error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.settings import settings
from topology.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_everything_has_a_value_on_a_bare_machine() -> None:
    chosen = settings()
    assert chosen.redis_url is None
    assert chosen.database_url is None
    assert chosen.door_host == "127.0.0.1", "the door is not open to the network unless somebody says so"


@pytest.mark.parametrize("name", ["REDIS_URL", "AIOPS_REDIS_URL"])
def test_a_url_is_taken_by_either_name_and_shown_to_nobody(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "redis://:s3cret@example/0")
    chosen = settings()
    assert chosen.redis_url is not None
    assert chosen.redis_url.get_secret_value() == "redis://:s3cret@example/0"
    assert "s3cret" not in repr(chosen)


def test_a_value_that_cannot_be_used_is_named_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPS_DOOR_PORT", "s3cret")
    monkeypatch.setenv("AIOPS_NAMESPACE", "No Spaces!")
    with pytest.raises(ConfigurationError, match="AIOPS_DOOR_PORT") as refused:
        settings()
    assert "AIOPS_NAMESPACE" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "s3cret"),
        ("AIOPS_REDIS_URL", "redis://:pa/s3cret@host:6379"),
        ("REDIS_URL", "redis://host?db=s3cret"),
        ("DATABASE_URL", "mysql://user:s3cret@host/db"),
        ("AIOPS_DATABASE_URL", ""),
    ],
)
def test_what_is_no_address_of_a_server_is_refused_before_anything_starts(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigurationError, match=f"{name.removeprefix('AIOPS_')}: found no address .* expected .*://"
    ) as refused:
        settings()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("REDIS_URL", "rediss://user:p%2Fw@host:6380/1"),
        ("DATABASE_URL", "postgres://user@one:5432,two:5432/db?target_session_attrs=read-write"),
    ],
)
def test_every_address_that_the_clients_take_is_taken(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert name.lower() in settings().model_fields_set
