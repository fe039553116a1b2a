"""What DECISIONS.md refers to is there."""

from __future__ import annotations

import re

from tests.architecture.source_tree import ROOT


def test_the_tests_that_decisions_name_exist() -> None:
    named = set(re.findall(r"`(test_\w+)(?:\.py)?`", (ROOT / "DECISIONS.md").read_text()))
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {found for file in files for found in re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.M)}
    known |= {file.stem for file in files}
    assert sorted(named - known) == []


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", (ROOT / "DECISIONS.md").read_text(), re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
