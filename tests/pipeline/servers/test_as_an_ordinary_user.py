"""Most machines that run the tests as root run the product as somebody else: the same tests, as the account ``nobody``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.servers.other_process import REPOSITORY, Stranger

pytestmark = [pytest.mark.servers, pytest.mark.slow]
# The ways in which being an ordinary user differs: sockets, passwords, signals, locks, a data directory of one's own.
SELECTED = """
    test_lease or test_guard or test_accounts or test_inspection or 200_characters or environment_differs or password
    or kill_9 or at_once_give or half_way or another_user or orphan
"""


@pytest.mark.long
@pytest.mark.timeout(400)  # the time of all the tests inside
def test_the_same_holds_for_an_ordinary_user(stranger: Stranger) -> None:
    here = Path(__file__).parent.relative_to(REPOSITORY)
    result = subprocess.run(
        [
            *(stranger.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", " ".join(SELECTED.split())),
            f"--ignore={here / Path(__file__).name}",
            str(here),
        ],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **stranger.environment},
        user="nobody",
        group="nogroup",
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
