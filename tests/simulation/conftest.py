"""Which seeds are played: ``pytest tests/simulation --seed=N`` repeats one, ``--seeds=N`` plays more than CI does.

The options exist when this folder is named on the command line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.playing import Tally

BLOCK = 50
"""Seeds per test, so that a test stays within its time and says early what fails."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, help="play only this seed, and print what befell it")
    group.addoption("--seeds", type=int, help="play so many seeds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seeds`` says with ``plays`` how many it plays."""
    if "seeds" not in metafunc.fixturenames:
        return
    only = metafunc.config.getoption("seed", default=None)
    if only is not None:
        metafunc.parametrize("seeds", [range(only, only + 1)], ids=str)
        return
    total = metafunc.config.getoption("seeds", default=None) or metafunc.function.plays
    blocks = [range(first, min(first + BLOCK, total)) for first in range(0, total, BLOCK)]
    ids = [f"{block.start}-{block.stop - 1}" for block in blocks]
    # The first block is for everybody, the others for CI.
    marked = [pytest.param(block, marks=[pytest.mark.long] if block.start else []) for block in blocks]
    metafunc.parametrize("seeds", marked, ids=ids)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A thousand runs log a hundred thousand lines about faults that are meant."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def tally() -> Tally:
    """What happened in all runs of this session."""
    return Tally()
