"""Where servers keep their data unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.servers import default_state_dir
from tests.fixtures.servers import folder_for_servers

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")


@pytest.fixture
def home() -> Iterator[Path]:
    with folder_for_servers() as folder:
        yield folder


def test_what_is_asked_for_is_taken(home: Path) -> None:
    asked_for = {"AIOPS_STATE_DIR": str(home / "x"), "HOME": "/a", "XDG_STATE_HOME": "/b"}
    assert default_state_dir(asked_for) == home / "x"
    assert default_state_dir({"AIOPS_STATE_DIR": "y"}) == Path.cwd() / "y"


def test_the_users_state_directory_comes_next(home: Path) -> None:
    assert default_state_dir({"HOME": str(home), "XDG_STATE_HOME": str(home / "s")}) == home / "s/aiops"
    assert default_state_dir({"HOME": str(home)}) == home / ".local/state/aiops"
    assert default_state_dir({"HOME": str(home), "XDG_STATE_HOME": "not/absolute"}) == home / ".local/state/aiops"


@as_root
def test_root_gets_var_lib_where_the_servers_cannot_reach_the_home(home: Path) -> None:
    home.chmod(0o700)
    assert default_state_dir({"HOME": str(home)}) == Path("/var/lib/aiops")


@as_root
def test_root_does_not_write_into_somebody_elses_home(home: Path) -> None:
    os.chown(home, 54321, 54321)
    assert default_state_dir({"HOME": str(home)}) == Path("/var/lib/aiops")
