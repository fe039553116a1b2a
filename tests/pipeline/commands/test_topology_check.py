"""``aiops topology check`` finds what is wrong in every topology of tests/topology/broken, where it is, and says what to do.

Each file is broken in one way, and says so beside the place: ``#> error: a part of the message``; where no comment can stand,
``#> line 7: error: ...``.
"""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from tests.pipeline.commands.calling import call

BROKEN = sorted((Path(__file__).parents[2] / "topology" / "broken").glob("*.yaml"))
_MARK = re.compile(r"#> (?:line (\d+): )?(error|warning|info): (.+)$")


def _expected(text: str) -> list[tuple[int, str, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        mark = _MARK.search(line)
        if mark is not None:
            found.append((int(mark[1] or number), mark[2], mark[3]))
    return found


def test_there_are_at_least_twenty_five() -> None:
    assert len(BROKEN) >= 25


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_all_that_is_wrong_and_nothing_else_is_found_at_its_line(file: Path) -> None:
    expected = _expected(file.read_text(encoding="utf-8"))
    assert expected

    shown = call("topology", "check", file)
    data = call("topology", "check", file, "--json")

    is_broken = any(severity == "error" for _, severity, _ in expected)
    assert (shown.exit_code, data.exit_code) == ((78, 78) if is_broken else (0, 0))
    lines = shown.stdout.splitlines()[:-1]
    assert [line.split(": ")[:2] for line in lines] == [[f"{file}:{number}", kind] for number, kind, _ in expected]
    assert [part for line, (_, _, part) in zip(lines, expected, strict=True) if part not in line] == []
    defects = orjson.loads(data.stdout)["defects"]
    assert [(each["file"], each["line"], each["severity"]) for each in defects] == [
        (str(file), number, kind) for number, kind, _ in expected
    ]
    assert all(each["found"] and each["expected"] and each["remedy"] for each in defects)
