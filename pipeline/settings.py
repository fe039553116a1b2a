"""Settings: the only reader of the environment besides the embedded servers and the patient.

Every setting has a default that works on one machine; ``aiops doctor`` shows each value and where it came from.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.servers.accounts import default_state_dir
from topology.durations import Duration
from topology.errors import ConfigurationError

_OTHERS_VARIABLES = {"AIOPS_DEBUG", "AIOPS_POSTGRES_PASSWORD", "AIOPS_VALKEY_PASSWORD"}
"""Read by the command itself, and by docker-compose.yml."""


class Settings(BaseSettings):
    """One value per ``AIOPS_...`` variable; ``REDIS_URL`` and ``DATABASE_URL`` by their usual names."""

    model_config = SettingsConfigDict(env_prefix="AIOPS_", frozen=True, extra="ignore")

    redis_url: SecretStr | None = Field(default=None, validation_alias=AliasChoices("REDIS_URL", "AIOPS_REDIS_URL"))
    """The mesh's server; embedded when not set."""
    database_url: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "AIOPS_DATABASE_URL")
    )
    """The knowledge's server; embedded when not set."""
    state_dir: Path = Field(default_factory=lambda: default_state_dir(os.environ))
    """Where embedded servers and sources keep what must survive a restart."""
    namespace: str = Field(default="aiops", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    """Begins every key in Redis, so that deployments can share a server."""
    require_persistence: bool = False
    """Refuse to start on a Redis that writes nothing to disk, instead of warning of it."""
    journal_mb: int = Field(default=256, ge=1)
    """What sources may keep on the local disk while Redis is away, in megabytes."""
    journal_hours: float = Field(default=24.0, gt=0)
    """How old what they keep may become; after that samples are dropped, and what was promised is no longer taken."""
    archive_dir: Path | None = None
    """Where what streams with `archive: true` forget is kept, `archive` in the state directory by default; workers on
    several machines need one that they share."""
    archive_retain: Duration | None = None
    """How long it is kept, such as `365d`; by default for ever."""
    environment: str = "local"
    """What experiences are conditioned on, such as `production`."""
    worker_name: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Unique among the live workers of a deployment."""
    lease_s: float = Field(default=5.0, ge=1.0)
    """How long the partitions of a dead worker stay orphaned."""
    stalled_s: float = Field(default=120.0, ge=1.0)
    """How long a stage may stand still while its lag grows before it is restarted; longer than the slowest repair."""
    door_host: str = "127.0.0.1"
    door_port: int = Field(default=8787, ge=0, le=65535)
    """0 takes any free port."""
    door_token: SecretStr | None = None
    """When set, the door wants it as a bearer token."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts the webhook executor may call; none by default."""
    webhook_secret: SecretStr | None = None
    """Signs the calls of the webhook executor."""
    supervisor_url: str | None = None
    """The control API of the process supervisor that repairs processes; the patient brings its own."""
    supervisor_token: SecretStr | None = None

    @field_validator("redis_url")
    @classmethod
    def _names_a_redis(cls, url: SecretStr | None) -> SecretStr | None:
        from redis.connection import parse_url  # only where there is something to parse; it takes long to load

        try:
            parse_url(url.get_secret_value() if url else "redis://")  # type: ignore[no-untyped-call]
        except ValueError:  # whose text may show the password
            msg = "found no address of a Redis, expected redis://, rediss:// or unix://, such as redis://user:password@host:6379/0"
            raise ValueError(msg) from None
        return url

    @field_validator("database_url")
    @classmethod
    def _names_a_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            msg = "found no address of a PostgreSQL, expected one such as postgresql://user:password@host:5432/database"
            raise ValueError(msg)
        return url

    @property
    def archive_folder(self) -> Path:
        """The archive of this namespace."""
        return (self.archive_dir or self.state_dir / "archive") / self.namespace


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        refused = [(_variable(str(each["loc"][0])), each["msg"]) for each in error.errors(include_input=False)]
        found = "; ".join(f"{name}: {why.removeprefix('Value error, ')}" for name, why in refused)
        msg = f"the environment has settings that cannot be used: {found}. Correct or unset them; `aiops doctor` lists all"
        raise ConfigurationError(msg) from error


def misspelt_variables() -> list[str]:
    """``AIOPS_...`` variables that set nothing; whoever set one believes that it does."""
    known = {_variable(name) for name in Settings.model_fields} | _OTHERS_VARIABLES
    return sorted(name for name in os.environ if name.startswith("AIOPS_") and name not in known)


def _variable(name: str) -> str:
    return f"AIOPS_{name.upper()}" if name in Settings.model_fields else name
