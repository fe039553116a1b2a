"""Log lines, and files that are rotated by rename and reopen."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from pipeline.patient.logfile import LogFile, timestamp


def test_a_line_has_its_moment_level_unit_message_and_facts(tmp_path: Path) -> None:
    with closing(LogFile(tmp_path / "ledger.log", "ledger")) as log:
        log.write("ERROR", "transfer failed", status=500, reason='it said "no"', empty="")

    written = (tmp_path / "ledger.log").read_text(encoding="utf-8")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ERROR ledger transfer failed status=500 "
        r'reason="it said \\"no\\"" empty=""\n',
        written,
    )


def test_a_moment_is_utc_to_the_millisecond() -> None:
    assert timestamp(1795356127.1239) == "2026-11-22T14:02:07.123Z"


def test_a_full_file_is_renamed_and_a_new_one_begun_without_losing_or_splitting_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.log"
    with closing(LogFile(path, "ledger", rotate_at_bytes=1_000)) as log:
        for number in range(15):
            log.write("INFO", "served", "Traceback (most recent call last):\n  ...\n", number=number)

    current, before = path.read_text(encoding="utf-8"), path.with_name("ledger.log.1").read_text(encoding="utf-8")
    assert len(current) <= 1_000
    assert len(before) <= 1_000
    assert current.endswith("  ...\n")
    assert before.endswith("  ...\n")
    assert re.findall(r"number=(\d+)", before + current) == [str(number) for number in range(15)]


def test_an_existing_file_is_continued_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.log"
    path.write_text("x" * 990 + "\n", encoding="utf-8")

    with closing(LogFile(path, "ledger", rotate_at_bytes=1_000)) as log:
        log.write("INFO", "ready")

    assert path.with_name("ledger.log.1").read_text(encoding="utf-8").startswith("xxx")
    assert path.read_text(encoding="utf-8").endswith("INFO ledger ready\n")
