"""What an entry takes with its key: a ratio of bytes, so a slow machine changes nothing.  tests/benchmarks measures at scale."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tables.aggregates import Count
from tables.table import Table
from tables.windows import Hopping, Session, Sliding, Tumbling, Window, seconds

ENTRIES = 10_000
BYTES_MAX = 300
WINDOWS = [
    pytest.param(Tumbling(seconds(10)), 1, id="tumbling"),
    pytest.param(Hopping(seconds(10), seconds(5)), 1, id="hopping"),
    pytest.param(Hopping(seconds(10), seconds(2)), 5, id="hopping, five panes"),
    pytest.param(Sliding(seconds(60)), 1, id="sliding"),
    pytest.param(Session(seconds(10)), 1, id="session"),
    pytest.param(None, 1, id="no window"),
]


class Taken:
    """How many bytes objects that were made meanwhile take."""

    bytes = 0


@contextmanager
def measured() -> Iterator[Taken]:
    taken = Taken()
    gc.collect()
    tracemalloc.start()
    try:
        yield taken
        gc.collect()
        taken.bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("window", "panes"), WINDOWS)
def test_an_entry_of_a_count_takes_no_more_than_is_said(window: Window | Session | None, panes: int) -> None:
    keys = ENTRIES // panes
    with measured() as live:
        bound = Table("counts", window=window, value=Count).bind()
        for number in range(keys):
            for pane in range(panes):
                bound.put(f"service-{number:06}", 10_000_000 + pane * 2_000_000 + number)
            if number % 500 == 0:
                bound.changes()
        bound.changes()
    stored = bound.snapshot()
    with measured() as restored:
        again = Table("counts", window=window, value=Count).bind()
        again.restore(stored)

    assert live.bytes / (keys * panes) <= BYTES_MAX
    assert restored.bytes / (keys * panes) <= BYTES_MAX
    assert len(stored) == keys * panes
    assert again.snapshot() == stored
    print(f"{live.bytes / keys / panes:.0f} bytes, restored {restored.bytes / keys / panes:.0f}")  # noqa: T201 - shown by -s
