"""The journal on the disk: what it keeps, in which order, within which bounds, and what a crash may do to it."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.journal import Journal, JournalFullError, JournalHeldError, Keeping
from pipeline.sources.journal_files import look_into

PROMISED = Keeping("refuse")
SAMPLED = Keeping("drop", priority=1)
PROBED = Keeping("drop", priority=2)


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def event(number: int, size: int = 0) -> bytes:
    return orjson.dumps({"n": number, "fill": "x" * size})


def opened(folder: Path, *, bytes_max: int = 1_000_000, age_max_s: float = 3600, clock: Clock | None = None) -> Journal:
    return Journal(folder, bytes_max=bytes_max, age_max_s=age_max_s, clock_ms=clock or Clock())


def numbers(journal: Journal, events_max: int = 1_000_000) -> list[int]:
    return [orjson.loads(each)["n"] for line in journal.take(events_max) for each in line.events]


def test_what_is_kept_comes_back_in_order_across_sources_and_starts(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(10):
        journal.append("door" if number % 3 else "a host/with odd names", PROMISED, [event(number)])
    journal.close()

    again = opened(tmp_path)
    assert (again.waiting.events, set(again.waiting.sources)) == (10, {"door", "a host/with odd names"})
    again.append("door", PROMISED, [event(10), event(11)])
    assert numbers(again) == list(range(12))
    again.done()
    assert again.waiting.events == 0
    assert list(tmp_path.glob("*/*.jsonl")) == []
    again.close()


def test_what_was_drained_does_not_come_back(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(10):
        journal.append("door", PROMISED, [event(number)])
    assert numbers(journal, 4) == [0, 1, 2, 3]
    journal.done()
    assert numbers(journal, 2) == [4, 5]
    journal.close()  # without having published these two

    again = opened(tmp_path)
    assert numbers(again) == [4, 5, 6, 7, 8, 9]
    again.done()
    again.append("door", PROMISED, [event(10)])
    assert numbers(again) == [10]
    again.close()


def test_what_is_appended_while_it_is_drained_comes_after(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    seen: list[int] = []
    for number in range(50):
        journal.append("door", PROMISED, [event(number)])
        if number % 3 == 2:
            seen += numbers(journal, 2)
        if number % 7 == 6:
            journal.done()
    seen += numbers(journal)
    journal.done()
    assert seen == list(range(50))
    assert look_into(tmp_path).waiting.events == 0
    journal.close()


@given(cut=st.integers(min_value=1, max_value=400))
def test_a_line_that_a_crash_tore_is_gone_and_the_others_are_there(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = opened(folder)
    for number in range(3):
        journal.append("door", PROMISED, [event(number, 100), event(number + 10)])
    journal.close()
    [segment] = folder.glob("door/*.jsonl")
    size = segment.stat().st_size
    os.truncate(segment, size - min(cut, size))
    whole = segment.read_bytes().count(b"\n")

    again = opened(folder)
    again.append("door", PROMISED, [event(99)])
    assert numbers(again) == [*(n + ten for n in range(whole) for ten in (0, 10)), 99]
    assert again.damaged == 0
    again.close()


def test_a_line_that_the_disk_damaged_is_passed_over_and_counted(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(3):
        journal.append("door", PROMISED, [event(number)])
    journal.close()
    [segment] = tmp_path.glob("door/*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"n":1', b'"n":7'))

    assert look_into(tmp_path).damaged == 1
    again = opened(tmp_path)
    assert numbers(again) == [0, 2]
    assert again.damaged == 1
    again.close()


def test_damage_at_the_end_does_not_keep_it_from_coming_to_an_end(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(3):
        journal.append("door", PROMISED, [event(number)])
    [segment] = tmp_path.glob("door/*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"n":2', b'"n":7'))
    assert numbers(journal) == [0, 1]
    journal.done()
    assert numbers(journal) == []
    assert journal.waiting.events == 0
    journal.close()


def test_one_process_writes_and_others_may_look(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append("door", PROMISED, [event(1)])
    with pytest.raises(JournalHeldError, match="AIOPS_STATE_DIR"):
        opened(tmp_path)
    assert look_into(tmp_path).waiting.events == 1
    journal.close()
    opened(tmp_path).close()


def test_a_full_journal_refuses_what_was_promised_and_drops_the_oldest_samples_by_priority(tmp_path: Path) -> None:
    journal = opened(tmp_path, bytes_max=64_000)
    for number in range(100):
        journal.append("host" if number % 2 else "probes", SAMPLED if number % 2 else PROBED, [event(number, 1_000)])
    held_by_host = journal.dropped["host"]
    assert held_by_host > 0
    assert journal.dropped["probes"] == 0 or journal.dropped["host"] >= 40, "the least priority goes first"
    assert journal.waiting.size <= 64_000

    promised = 0
    refusal = ""
    while not refusal:
        try:
            journal.append("door", PROMISED, [event(100 + promised, 1_000)])
            promised += 1
        except JournalFullError as full:
            refusal = str(full)
    assert "AIOPS_JOURNAL_MB" in refusal
    assert promised > 50, "samples made room"
    assert journal.append("host", SAMPLED, [event(999, 1_000)]) is False
    assert journal.waiting.size <= 64_000
    kept = numbers(journal)
    assert kept == list(range(100, 100 + promised))
    assert journal.dropped.total() + len(kept) == 101 + promised, "nothing is gone that was not counted"
    journal.close()
    assert look_into(tmp_path).dropped == journal.dropped


def test_a_line_larger_than_the_journal_makes_nobody_else_go(tmp_path: Path) -> None:
    journal = opened(tmp_path, bytes_max=32_000)
    journal.append("host", SAMPLED, [event(1)])
    with pytest.raises(JournalFullError, match="larger than the whole journal"):
        journal.append("door", PROMISED, [event(2, 40_000)])
    assert numbers(journal) == [1]
    journal.close()


def test_old_samples_are_dropped_and_old_promises_are_kept_but_no_new_ones_given(tmp_path: Path) -> None:
    clock = Clock()
    journal = opened(tmp_path, age_max_s=60, clock=clock)
    journal.append("door", PROMISED, [event(1)])
    journal.append("host", SAMPLED, [event(2)])
    clock.now_ms += 61_000
    with pytest.raises(JournalFullError, match="AIOPS_JOURNAL_HOURS"):
        journal.append("door", PROMISED, [event(3)])
    assert journal.append("host", SAMPLED, [event(4)])
    assert journal.dropped == {"host": 1}
    assert numbers(journal) == [1, 4]
    journal.done()
    journal.append("door", PROMISED, [event(5)])
    assert numbers(journal) == [5]
    journal.close()


def test_what_no_stream_takes_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.set_aside([event(1)], "gone")
    journal.close()
    assert orjson.loads((tmp_path / "unpublishable.jsonl").read_bytes()) == {
        "reason": "gone",
        "event": {"n": 1, "fill": ""},
    }
    assert look_into(tmp_path).unpublishable == 1


def test_there_may_be_nothing_to_look_into(tmp_path: Path) -> None:
    found = look_into(tmp_path / "none")
    assert (found.waiting.events, found.dropped.total(), found.damaged) == (0, 0, 0)
