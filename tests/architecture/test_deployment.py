"""What is deployed is hardened and survives: compose file, image, CI script. Read, not run: tests need no docker."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.architecture.source_tree import PACKAGES, ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

each_service = pytest.mark.parametrize("name", ["valkey", "postgres", "worker"])


def _uid_of(name: str) -> str:
    if "user" in SERVICES[name]:
        return str(SERVICES[name]["user"]).split(":", maxsplit=1)[0]
    users: list[str] = re.findall(r"^USER (\d+)", DOCKERFILE, flags=re.MULTILINE)
    return users[-1]


def test_the_compose_file_has_the_two_servers_and_a_worker() -> None:
    assert set(SERVICES) == {"valkey", "postgres", "worker"}


@each_service
def test_a_service_does_not_run_as_root_and_cannot_become_it(name: str) -> None:
    assert int(_uid_of(name)) > 0
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


@each_service
def test_a_service_tells_whether_it_is_healthy(name: str) -> None:
    assert {"test", "interval", "timeout", "retries", "start_period"} <= SERVICES[name]["healthcheck"].keys()


@each_service
def test_a_service_keeps_its_data_in_a_named_volume(name: str) -> None:
    sources = [volume.split(":")[0] for volume in SERVICES[name]["volumes"]]

    assert sources
    assert set(sources) <= COMPOSE["volumes"].keys()


@each_service
def test_a_service_has_bounds_and_comes_back(name: str) -> None:
    assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert SERVICES[name]["restart"] == "unless-stopped"


@each_service
def test_passwords_come_from_outside_and_their_absence_stops_everything(name: str) -> None:
    environment: dict[str, str] = SERVICES[name]["environment"]
    secret = [value for key, value in environment.items() if re.search("PASSWORD|AUTH|_URL", key)]

    assert secret
    for value in secret:
        assert re.search(r"\$\{AIOPS_(VALKEY|POSTGRES)_PASSWORD:\?set [^}]+\}", value), f"a default password: {value}"


def test_only_the_workers_reach_the_servers() -> None:
    for name in ("valkey", "postgres"):
        assert "ports" not in SERVICES[name]
        assert SERVICES[name]["networks"] == ["stores"]
    assert COMPOSE["networks"]["stores"] == {"internal": True}


def test_workers_start_when_the_servers_answer() -> None:
    assert SERVICES["worker"]["depends_on"] == {
        "valkey": {"condition": "service_healthy"},
        "postgres": {"condition": "service_healthy"},
    }


def test_valkey_writes_everything_down_and_evicts_nothing() -> None:
    command = " ".join(SERVICES["valkey"]["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_holds_the_four_packages_and_only_checked_dependencies() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    for package in PACKAGES:
        assert f"COPY {package} {package}\n" in DOCKERFILE
        assert f"!{package}" in ignored
    assert "--require-hashes" in DOCKERFILE


def test_the_image_is_of_the_version_that_is_built() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert SERVICES["worker"]["image"] == f"aiops-core:{version}"


@pytest.mark.parametrize(
    "script", [".ci/run", *(f"deploy/{path.name}" for path in sorted((ROOT / "deploy").iterdir()))]
)
def test_a_script_can_be_started_and_stops_at_the_first_error(script: str) -> None:
    path = ROOT / script
    lines = path.read_text(encoding="utf-8").splitlines()

    assert os.access(path, os.X_OK)
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
