"""Log files: several lines, JSON, and entries without a time."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.importing.inputs import Inputs, UnreadableInputError
from pipeline.importing.log_text import LogText
from pipeline.importing.times import Times
from tests.pipeline.importing.reading import found, lines

PLAIN = LogText()


def test_an_entry_has_the_lines_that_continue_it_and_the_time_in_front() -> None:
    text = (
        "2026-03-01 12:00:00,250 ERROR it broke\n"
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1\n'
        "ValueError: no\n"
        "2026-03-01T12:00:01+01:00 [warn] slow\n"
    )
    assert lines(found(PLAIN, text, name="shop.log.1")) == [
        (
            "2026-03-01T12:00:00.250000Z",
            "shop",
            "error",
            'it broke\nTraceback (most recent call last):\n  File "a.py", line 1\nValueError: no',
        ),
        ("2026-03-01T11:00:01Z", "shop", "warning", "slow"),
    ]


def test_times_that_name_no_zone_are_of_the_given_one() -> None:
    importer = LogText(service="web", times=Times(zone=ZoneInfo("Europe/Berlin")))
    assert lines(found(importer, "2026-03-01 12:00:00 hello")) == [("2026-03-01T11:00:00Z", "web", "info", "hello")]


def test_lines_of_json_say_time_level_service_and_more() -> None:
    text = (
        '{"time":"2026-03-01T12:00:00Z","level":"warn","msg":"slow","service":"web","took_ms":12.5,"ok":false,"at":{"x":1}}\n'
        '{"ts":1772366401.5,"severity":50,"message":"stopped","logger":"main"}\n'
        '{"@timestamp":1772366402000,"event":{"deep":1}}\n'
    )
    observations = found(LogText(labels={"env": "test"}), text, name="shop.log")
    assert lines(observations) == [
        ("2026-03-01T12:00:00Z", "web", "warning", "slow"),
        ("2026-03-01T12:00:01.500000Z", "shop", "critical", "stopped"),
        ("2026-03-01T12:00:02Z", "shop", "info", '{"@timestamp":1772366402000,"event":{"deep":1}}'),
    ]
    said: list[Any] = [each.payload for each in observations]
    assert dict(said[0].labels) == {"took_ms": "12.5", "ok": "false", "env": "test"}
    assert (said[1].logger, said[1].origin) == ("main", "shop.log")


@pytest.mark.parametrize(
    ("number", "level"), [(10, "debug"), (20, "info"), (30, "warning"), (40, "error"), (60, "critical")]
)
def test_levels_may_be_numbers(number: int, level: str) -> None:
    text = f'{{"time":1772366401,"level":{number},"msg":"m"}}'
    assert [said for _, _, said, _ in lines(found(PLAIN, text))] == [level]


def test_an_entry_without_a_time_has_that_of_the_one_before() -> None:
    text = "2026-03-01T12:00:00Z one\n  and more\n" + '{"time":"2026-03-01T12:00:05Z","msg":"two"}\n{"msg":"three"}\n'
    assert [(at, said) for at, _, _, said in lines(found(PLAIN, text))] == [
        ("2026-03-01T12:00:00Z", "one\n  and more"),
        ("2026-03-01T12:00:05Z", "two"),
        ("2026-03-01T12:00:05Z", "three"),
    ]


def test_what_is_before_the_first_time_is_refused_or_counted() -> None:
    text = "hello\n=====\n2026-03-01T12:00:00Z one\n"
    with pytest.raises(UnreadableInputError, match=r"shop\.csv, byte 0: found no time in b'hello'"):
        found(PLAIN, text)
    inputs = Inputs(skip_bad=True)
    assert len(found(PLAIN, text, inputs=inputs)) == 1
    assert (inputs.bad, inputs.first_bad[1].partition(": ")[0][-6:]) == (2, "byte 6")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"time":"noon","msg":"m"}', "time: found 'noon', expected a time"),
        ('{"ts":[1],"msg":"m"}', "ts: found a list, expected a time"),
        ('{"ts":true,"msg":"m"}', "ts: found True, expected a time"),
        ('{"ts":-5,"msg":"m"}', "expected one in the years 1970 to 9999"),
        ('{"ts":1e300,"msg":"m"}', "expected a time"),
        ('{"ts":5,"msg":"m","service":"' + "x" * 300 + '"}', "service: "),
        ("1960-03-01T12:00:00Z one", "expected one in the years 1970 to 9999"),
    ],
)
def test_a_bad_entry_is_refused_with_its_place(line: str, said: str) -> None:
    with pytest.raises(UnreadableInputError, match=r"shop\.csv, byte 25: ") as refused:
        found(PLAIN, "2026-03-01T12:00:00Z one\n" + line + "\n")
    assert said in str(refused.value)


def test_an_entry_beyond_all_bounds_is_cut_and_says_so() -> None:
    [observation] = found(PLAIN, "2026-03-01T12:00:00Z " + "x" * 70_000)
    assert observation.metadata == {"cut_bytes": 70_000 + 21 - 65_536}
