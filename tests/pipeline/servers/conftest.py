"""Fixtures of the tests of the embedded servers themselves."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.servers.accounts import Account
from tests.fixtures.servers import folder_for_servers
from tests.pipeline.servers.engine_copies import copy_of_the_wheels
from tests.pipeline.servers.other_process import REPOSITORY, Stranger


@pytest.fixture
def copied_wheels(state_dir: Path) -> Path:
    """The server wheels again, free to be damaged."""
    target = state_dir / "wheels"
    copy_of_the_wheels(target)
    return target


@pytest.fixture(scope="session")
def stranger() -> Iterator[Stranger]:
    """An interpreter that an account other than root's can run, with our packages; skips where there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process as somebody else")
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)
    packages = Path(sysconfig.get_path("purelib"))
    for needed in (packages, REPOSITORY):
        if not account.may_traverse(needed):
            pytest.skip(f"'nobody' cannot reach {needed}, so nothing was run as an ordinary user")
    environment = {"PYTHONPATH": os.pathsep.join([str(packages), str(REPOSITORY)]), "HOME": "/nonexistent"}
    with folder_for_servers() as folder:
        if account.may_traverse(Path(sys.executable).resolve().parent):
            yield Stranger(sys.executable, environment)
        else:
            copy = _copy_of_this_python(folder / "python")
            home = folder / "python"
            yield Stranger(str(copy), {**environment, "PYTHONHOME": str(home), "LD_LIBRARY_PATH": str(home / "lib")})


def _copy_of_this_python(target: Path) -> Path:
    """Copy interpreter and standard library out of a private home, where pyenv and uv put them."""
    library = Path(sysconfig.get_path("stdlib"))
    left_out = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "ensurepip", "config-*")
    shutil.copytree(library, target / "lib" / library.name, symlinks=True, ignore=left_out)
    for shared in library.parent.glob("libpython*"):
        shutil.copy(shared, target / "lib")
    (target / "bin").mkdir()
    return Path(shutil.copy(Path(sys.executable).resolve(), target / "bin" / "python3"))
