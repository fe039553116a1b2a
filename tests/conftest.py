"""What holds for every test: no server of the person who runs them is touched, and hypothesis does not race a clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Fixtures of real servers; none starts before a test asks for it.
pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.redis_cluster"]

# A deadline per example fails on a busy machine and says nothing about the code. CI repeats the same examples, so that a
# red run is about the change; a person's runs look at new ones each time. `print_blob` makes a failure repeatable.
settings.register_profile("person", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "person")

_OURS = ("AIOPS_", "REDIS_URL", "DATABASE_URL")


@pytest.fixture(scope="session", autouse=True)
def _a_world_of_its_own() -> Iterator[None]:
    """Point everything that is read from the environment at a fresh folder.

    Somebody with REDIS_URL or DATABASE_URL set for production must be able to run the tests without a thought, and what
    they keep in their state directory must be there afterwards.
    """
    # Here, since pytest must be the first to import its plugins, to rewrite their assertions.
    from tests.fixtures.servers import folder_for_servers

    with folder_for_servers() as folder, pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            environment.delenv(name)
        environment.setenv("AIOPS_STATE_DIR", str(folder))
        yield
