"""Lines become entries, and entries say their time and level."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.log_entries import ENTRY_BYTES_MAX, Entry, EntryAssembler, parse_entry

TRACEBACK = b"""2026-01-01T00:00:00Z ERROR api it broke
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    1 / 0
ZeroDivisionError: division by zero
"""


def entries_of(text: bytes, *, piece: int | None = None) -> list[Entry]:
    assembler = EntryAssembler()
    pieces = [text[i : i + piece] for i in range(0, len(text), piece)] if piece else [text]
    return [entry for data in pieces for entry in assembler.feed(data)] + assembler.flush(at_end=True)


def texts_of(text: bytes) -> list[str]:
    return [entry.text.decode() for entry in entries_of(text)]


def test_each_line_is_an_entry_and_knows_where_it_stands() -> None:
    assert entries_of(b"one\ntwo\r\nthree") == [Entry(0, b"one"), Entry(4, b"two"), Entry(9, b"three")]


def test_a_traceback_belongs_to_the_line_before_it() -> None:
    assert texts_of(TRACEBACK + b"2026-01-01T00:00:01Z INFO api fine\n") == [
        TRACEBACK.decode().rstrip(),
        "2026-01-01T00:00:01Z INFO api fine",
    ]


def test_a_traceback_without_times_ends_with_the_line_that_names_the_exception() -> None:
    bare = TRACEBACK.split(b"\n", 1)[1]

    assert texts_of(bare + b"started again\n") == [bare.decode().rstrip(), "started again"]


def test_a_java_stack_with_its_cause_is_one_entry() -> None:
    java = b"Exception in thread main\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException\n\t... 3 more\n"

    assert texts_of(java + b"next\n") == [java.decode().rstrip(), "next"]


def test_after_a_line_with_a_time_every_line_without_one_continues_it() -> None:
    assert texts_of(b"2026-01-01 00:00:00,1 a\nmore\n2026-01-01 00:00:00,2 b\n") == [
        "2026-01-01 00:00:00,1 a\nmore",
        "2026-01-01 00:00:00,2 b",
    ]


def test_an_entry_waits_for_its_continuation_and_a_line_for_its_end() -> None:
    assembler = EntryAssembler()

    assert assembler.feed(b"one\ntw") == []
    assert assembler.flush() == [Entry(0, b"one")]
    assert assembler.open_from == 4
    assert assembler.feed(b"o\n") == []
    assert assembler.flush() == [Entry(4, b"two")]


def test_a_very_long_line_is_cut_and_what_follows_stands_where_it_stands() -> None:
    long = b"x" * 1_000_000

    first, second = entries_of(long + b"\nnext\n", piece=100_000)

    assert (len(first.text), first.dropped) == (ENTRY_BYTES_MAX, len(long) - ENTRY_BYTES_MAX)
    assert second == Entry(len(long) + 1, b"next")


def test_a_very_long_entry_of_many_lines_is_cut_too() -> None:
    first, second = entries_of(b"2026-01-01T00:00:00Z a\n" + b"more\n" * 100_000 + b"2026-01-01T00:00:00Z b\n")

    assert len(first.text) <= ENTRY_BYTES_MAX
    assert first.dropped > 300_000
    assert second.offset == 23 + 500_000


@given(st.binary(max_size=300), st.integers(1, 50))
def test_how_the_bytes_come_in_does_not_matter(text: bytes, piece: int) -> None:
    assert entries_of(text) == entries_of(text, piece=piece)


@given(st.binary(max_size=300))
def test_an_entry_is_found_where_it_says_it_stands(text: bytes) -> None:
    for entry in entries_of(text):
        assert text[entry.offset :].startswith(entry.text.split(b"\n")[0].rstrip())


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("2026-11-22T14:02:07.123Z INFO a b", datetime(2026, 11, 22, 14, 2, 7, 123000, UTC)),
        ("2026-11-22 14:02:07,5 INFO a b", datetime(2026, 11, 22, 14, 2, 7, 500000, UTC)),
        ("[2026-11-22T14:02:07.123456789+02:00] INFO a b", datetime(2026, 11, 22, 12, 2, 7, 123456, UTC)),
        ("2026-11-22T14:02:07 -0530 INFO a b", datetime(2026, 11, 22, 19, 32, 7, 0, UTC)),
    ],
)
def test_iso_times_are_read_and_taken_off_the_message(line: str, at: datetime) -> None:
    parsed = parse_entry(line.encode())

    assert (parsed.at, parsed.level, parsed.message) == (at, "info", "a b")


@pytest.mark.parametrize("line", ["started", "2026-13-45T99:99:99 x", "12:00 x", "2026-11-22 x", ""])
def test_a_line_without_a_time_has_none_and_keeps_its_words(line: str) -> None:
    assert parse_entry(line.encode()) == parse_entry(line.encode(), zone=timezone(timedelta(hours=1)))
    assert parse_entry(line.encode()).at is None
    assert parse_entry(line.encode()).message == line


def test_a_time_without_a_zone_is_in_the_zone_that_was_set() -> None:
    assert parse_entry(b"2026-11-22 14:00:00 x", zone=timezone(timedelta(hours=2))).at == datetime(
        2026, 11, 22, 12, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-22T14:02:07Z WARN api slow", "warning"),
        ("ERROR: no", "error"),
        ("[critical] no", "critical"),
        ("fatal: no", "critical"),
        ("Nov 22 host app[1]: <err> no", "error"),
        ("2026/11/22 14:02:07 [error] 7#7: *1 connect() failed", "error"),
        ('ts=1 level=warn msg="slow"', "warning"),
        ("root DEBUG here", "debug"),
        ("Traceback (most recent call last):\n  x\nValueError: y", "error"),
        ("Alert manager started", "info"),
        ("no error at all", "info"),
        ("GET /ERROR 200", "info"),
    ],
)
def test_the_level_is_found_where_people_write_it(line: str, level: str) -> None:
    assert parse_entry(line.encode()).level == level


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert parse_entry(b"caf\xe9 \xff").message == "caf\ufffd \ufffd"


@given(st.binary(max_size=200))
def test_any_bytes_say_something(text: bytes) -> None:
    parse_entry(text)
