"""The short version of `make chaos`: every fault that needs neither root nor PostgreSQL, once."""

from __future__ import annotations

import random
import time

import pytest

from tests.chaos.playing import play


@pytest.mark.servers
@pytest.mark.long
@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_is_counted_twice_whatever_happens_to_workers_and_server() -> None:
    seed = random.Random(time.time_ns()).randrange(1_000_000)

    report = await play(seed, quick=True)

    assert not report.failed, report.last_line()
    assert (report.lost, report.double, report.order_violations) == (0, 0, 0)
    assert report.fenced > 0
