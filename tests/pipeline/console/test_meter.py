"""A long reading says how far it is, where somebody watches and where nobody does."""

from __future__ import annotations

import io

import pytest

from pipeline.console.meter import Meter
from pipeline.engine.record import Offset, Record


class Terminal(io.StringIO):
    """Says that somebody watches."""

    def isatty(self) -> bool:
        return True


def read_on(
    out: io.StringIO, seconds: float, *, begin_ms: int | None = 1_000, end_ms: int = 3_000, total: int | None = None
) -> str:
    """Half of a span is read in so many seconds."""
    now_s = [0.0]
    with Meter("recording", begin_ms, end_ms, total=total, out=out, clock=lambda: now_s[0]) as meter:
        for number in range(1_024):
            now_s[0] = seconds * (number + 1) / 1_024
            meter.count(Record("s", 0, Offset(1_000 + 1_000 * (number + 1) // 1_024, number), "", "", b""))
    return out.getvalue()


def test_on_a_terminal_one_line_is_written_anew_and_gone_in_the_end() -> None:
    said = read_on(Terminal(), 4.0)
    lines = said.split("\r\x1b[K")
    assert len(lines) == 6
    assert lines[-2].startswith("recording: 50% · 1,024 events, 256/s · at 1970-01-01 ")
    assert lines[-2].endswith(" · 4 s left")
    assert lines[-1] == ""


@pytest.mark.parametrize(("seconds", "lines"), [(4.0, 0), (41.0, 4)])
def test_elsewhere_a_line_is_said_now_and_then(seconds: float, lines: int) -> None:
    assert len(read_on(io.StringIO(), seconds).splitlines()) == lines


def test_a_span_without_a_beginning_begins_with_the_first_record() -> None:
    assert "recording: 50% " in read_on(Terminal(), 4.0, begin_ms=None)


def test_where_the_number_is_known_it_is_told_by_the_number() -> None:
    assert "recording: 25% " in read_on(Terminal(), 4.0, total=4_096)


def test_nothing_is_promised_by_a_beginning_that_says_little() -> None:
    said = read_on(Terminal(), 4.0, end_ms=1_000_000)
    assert "recording: 0% " in said
    assert "left" not in said
