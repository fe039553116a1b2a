"""One host for all tests of this folder; each test finds the patient well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.patient.bedside import Host


@pytest.fixture(scope="session")
def _one_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("patient"))
    yield host
    host.stop()


@pytest.fixture
def host(_one_host: Host) -> Host:
    _one_host.post("/faults/heal")
    return _one_host


@pytest.fixture
def start_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts hosts of the test's own, in `tmp_path / "home"`, and ends them."""
    started: list[Host] = []

    def start(*arguments: str) -> Host:
        started.append(Host(tmp_path / "home", *arguments))
        return started[-1]

    yield start
    for one in started:
        one.stop()
