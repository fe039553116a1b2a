"""`make` alone tells what there is."""

from __future__ import annotations

import re
import subprocess

from tests.architecture.source_tree import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_make_alone_lists_every_target_with_its_purpose() -> None:
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, flags=re.MULTILINE))

    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    listed = {line.split()[1]: line.split(maxsplit=2)[2:] for line in shown.splitlines()}
    assert listed.keys() == targets
    assert all(listed.values())
    assert {"setup", "run", "test", "check", "bench", "chaos", "evaluate", "lock", "clean"} <= targets


def test_every_target_that_needs_the_environment_sets_it_up() -> None:
    rules = re.findall(r"^([a-z-]+):([^#\n]*)##.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)
    unprepared = [
        name
        for name, needs, recipe in rules
        if re.search(r"\$\(PY\)|\$\(VENV\)/bin/", recipe) and "$(VENV)/." not in needs
    ]

    assert len(rules) > 10
    assert unprepared == []
