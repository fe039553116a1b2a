"""Ids that every process derives alike, time in whole microseconds, durations as people write them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.strategies import moments
from topology.durations import Duration, parse_duration, show_duration
from topology.ids import consequence_id, derived_id, derived_text
from topology.moments import from_us, moment_text, span_us, text_of_us, to_us

PARTS = st.lists(st.text(max_size=10) | st.integers() | st.uuids(), max_size=5)


def test_an_id_is_the_same_in_every_release() -> None:
    """Changing this value makes every redelivered event a new one: never do."""
    assert derived_id("incident", "ledger", 7) == UUID("b18ececc-fb2d-5ae2-8f02-d802c23c3c62")


def test_an_id_is_the_same_in_every_process() -> None:
    code = "from topology.ids import consequence_id, derived_id; print(derived_id('incident', 'søk', 7))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert runs == [str(derived_id("incident", "søk", 7))] * 2


@given(st.uuids(), st.lists(st.text(max_size=10) | st.integers(), max_size=3))
def test_the_id_of_a_consequence_is_derived_like_any_other(cause: UUID, parts: list[str | int]) -> None:
    assert consequence_id(str(cause), *parts) == str(derived_id(cause, *parts))
    assert derived_text(*parts) == str(derived_id(*parts))


@given(moments())
def test_a_moment_is_written_as_the_codec_writes_it(moment: datetime) -> None:
    assert text_of_us(to_us(moment)) == moment_text(moment)
    assert f'"{moment_text(moment)}"'.encode() == orjson.dumps(moment.astimezone(UTC), option=orjson.OPT_UTC_Z)


@given(PARTS, PARTS)
def test_different_parts_give_different_ids(one: list[UUID | str | int], other: list[UUID | str | int]) -> None:
    def as_text(parts: list[UUID | str | int]) -> list[bytes]:
        return [part.bytes if isinstance(part, UUID) else str(part).encode() for part in parts]

    assert (derived_id(*one) == derived_id(*other)) == (as_text(one) == as_text(other))


def test_where_one_part_ends_matters() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert derived_id("a", "") != derived_id("a")


def test_derived_ids_are_uuids_of_version_5() -> None:
    assert (derived_id("x").version, derived_id("x").variant) == (5, UUID(int=0, version=5).variant)


@given(moments())
def test_moments_keep_every_microsecond(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment


def test_a_moment_is_the_same_in_every_time_zone() -> None:
    oslo = datetime(2026, 11, 22, 15, 2, 7, 1, tzinfo=timezone(timedelta(hours=1)))

    assert to_us(oslo) == to_us(oslo.astimezone(UTC))


def test_moments_before_the_epoch_are_negative() -> None:
    assert to_us(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        to_us(datetime(2026, 11, 22))  # noqa: DTZ001  (the very thing that is refused)


@given(st.integers(0, 10**15))
def test_spans_are_whole_microseconds(us: int) -> None:
    assert span_us(timedelta(microseconds=us)) == us


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("1.5m", 90), (" 24h ", 86_400), ("7d", 604_800), ("0s", 0)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 week", "1e3s", "10s 5ms", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number and a unit"):
        parse_duration(text)


def test_a_duration_beyond_all_use_is_refused() -> None:
    with pytest.raises(ValueError, match="at most a million days"):
        parse_duration("9" * 400 + "d")


@pytest.mark.parametrize(
    ("text", "shown"), [("90s", "90s"), ("120s", "2m"), ("24h", "1d"), ("0ms", "0s"), ("1.5s", "1500ms")]
)
def test_a_duration_is_shown_in_its_largest_whole_unit(text: str, shown: str) -> None:
    assert show_duration(parse_duration(text)) == shown


@given(st.integers(0, 10**15).map(lambda us: timedelta(microseconds=us)))
def test_a_shown_duration_reads_back_as_the_same(duration: timedelta) -> None:
    assert parse_duration(show_duration(duration)) == duration


def test_a_model_reads_and_writes_durations_as_text() -> None:
    class Waiting(BaseModel):
        longest: Duration

    assert Waiting.model_validate({"longest": "15m"}).model_dump() == {"longest": "15m"}
    assert Waiting(longest=timedelta(minutes=15)) == Waiting.model_validate({"longest": "15m"})
    with pytest.raises(ValidationError):
        Waiting.model_validate({"longest": "soon"})
