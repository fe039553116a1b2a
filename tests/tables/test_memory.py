"""What an entry takes: a ratio of bytes, so a slow machine changes nothing.  tests/benchmarks measures at scale."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from tables.aggregates import Count
from tables.table import Table
from tables.windows import Hopping, Session, Sliding, Tumbling, Window, seconds

ENTRIES = 20_000


@pytest.mark.parametrize(
    ("window", "bytes_max"),
    [
        (Tumbling(seconds(10)), 300),
        (Hopping(seconds(10), seconds(5)), 300),
        (Sliding(seconds(60)), 300),
        (Session(seconds(10)), 300),
    ],
)
def test_an_entry_of_a_count_takes_no_more_than_is_said(window: Window | Session, bytes_max: int) -> None:
    keys = [f"service-{number:06}" for number in range(ENTRIES)]
    bound = Table("counts", window=window, value=Count).bind()
    gc.collect()
    tracemalloc.start()
    try:
        for number, key in enumerate(keys):
            bound.put(key, 10_000_000 + number)
            if number % 500 == 0:
                bound.changes()
        bound.changes()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / ENTRIES <= bytes_max
