"""How far event time has come."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tables.watermark import Watermark
from tables.windows import seconds
from topology.errors import ConfigurationError


def test_it_is_the_latest_event_time_less_the_lateness() -> None:
    watermark = Watermark(seconds(2))
    assert watermark.observe(10_000_000) == 8_000_000
    assert watermark.at_us == 8_000_000


def test_it_is_unknown_before_the_first_event() -> None:
    assert Watermark().at_us is None


def test_an_older_event_does_not_turn_it_back() -> None:
    watermark = Watermark()
    watermark.observe(10)
    assert watermark.observe(3) == 10


def test_ticks_advance_it_while_nothing_happens() -> None:
    watermark = Watermark(seconds(1))
    watermark.observe(0)
    assert watermark.tick(60_000_000) == 59_000_000


def test_it_goes_on_from_a_snapshot() -> None:
    before = Watermark()
    before.observe(42)
    after = Watermark()
    after.restore(before.snapshot())
    assert after.observe(7) == 42


def test_an_empty_one_survives_a_snapshot() -> None:
    after = Watermark()
    after.restore(Watermark().snapshot())
    assert after.at_us is None


def test_a_negative_lateness_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected zero or more"):
        Watermark(timedelta(seconds=-1))
