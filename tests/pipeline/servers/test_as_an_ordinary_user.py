"""Most machines that run the tests as root run the product as somebody else: the same tests, as the account ``nobody``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.servers.other_process import REPOSITORY, Stranger

pytestmark = [pytest.mark.servers, pytest.mark.slow]
THE_SAME_TESTS = ("test_lease.py", "test_guard.py", "test_accounts.py", "test_inspection.py", "test_pitfalls.py")
# Enough for every way in which being an ordinary user differs; the rest would only take time.
SELECTED = "not locale and not processor and not extension and not initdb_that_fails and not holes"


def test_the_same_holds_for_an_ordinary_user(stranger: Stranger) -> None:
    here = Path(__file__).parent.relative_to(REPOSITORY)
    result = subprocess.run(
        [
            *(stranger.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SELECTED),
            *(str(here / name) for name in THE_SAME_TESTS),
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
