"""Series of metrics as CSV."""

from __future__ import annotations

import csv
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.importing.inputs import Inputs, UnreadableInputError
from pipeline.importing.metric_csv import MetricCsv
from pipeline.importing.times import Times
from tests.pipeline.importing.reading import found, samples
from tests.strategies import moments
from topology.moments import from_us, text_of_us

PLAIN = MetricCsv()


def test_a_series_is_one_metric_of_the_service_its_file_is_called_after() -> None:
    text = "timestamp,value\n2014-04-01 00:00:00,18.5\r\n2014-04-01T00:05:00+02:00,-2e3\n"
    assert samples(found(PLAIN, text)) == [
        ("2014-04-01T00:00:00Z", "shop", "value", 18.5),
        ("2014-03-31T22:05:00Z", "shop", "value", -2000.0),
    ]


def test_columns_may_be_metrics_services_and_labels() -> None:
    importer = MetricCsv(service_column="host", label_columns=("region",), labels={"env": "test"}, unit="%")
    text = '\ufeffhost,Time,region,cpu,"memory, free"\nweb,1396310400,eu,1,2\ndb,1396310400,,3,\n'
    inputs = Inputs()
    observations = found(importer, text, inputs=inputs)
    assert samples(observations) == [
        ("2014-04-01T00:00:00Z", "web", "cpu", 1.0),
        ("2014-04-01T00:00:00Z", "web", "memory, free", 2.0),
        ("2014-04-01T00:00:00Z", "db", "cpu", 3.0),
    ]
    said: list[Any] = [each.payload for each in observations]
    assert [dict(each.labels) for each in said] == [{"env": "test", "region": "eu"}] * 2 + [{"env": "test"}]
    assert {each.unit for each in said} == {"%"}
    assert inputs.gaps == 1


def test_long_form_without_a_header_and_with_tabs() -> None:
    importer = MetricCsv(
        service="shop", metric_column="2", time_column="1", value_columns=("3",), header=False, delimiter="\t"
    )
    assert samples(found(importer, "1396310400\tcpu\t1\n\n1396310400\tdisk\t2")) == [
        ("2014-04-01T00:00:00Z", "shop", "cpu", 1.0),
        ("2014-04-01T00:00:00Z", "shop", "disk", 2.0),
    ]


@pytest.mark.parametrize(
    ("form", "zone", "text", "said"),
    [
        ("", "UTC", "1396310400.25", "2014-04-01T00:00:00.250000Z"),
        ("", "UTC", "1396310400000", "2014-04-01T00:00:00Z"),
        ("", "UTC", "1396310400000001", "2014-04-01T00:00:00.000001Z"),
        ("", "UTC", "1396310400000001999", "2014-04-01T00:00:00.000001Z"),
        ("s", "UTC", "0", "1970-01-01T00:00:00Z"),
        ("ms", "UTC", "1500", "1970-01-01T00:00:01.500000Z"),
        ("", "UTC", "2014-04-01", "2014-04-01T00:00:00Z"),
        ("", "Europe/Berlin", "2014-04-01 00:00", "2014-03-31T22:00:00Z"),
        ("", "Europe/Berlin", "2014-10-26 02:30", "2014-10-26T00:30:00Z"),  # twice on that day: the first
        ("", "Europe/Berlin", "2014-04-01T00:00Z", "2014-04-01T00:00:00Z"),
        ("%d.%m.%Y %H:%M", "Europe/Berlin", "01.02.2014 13:45", "2014-02-01T12:45:00Z"),
        ("%d/%b/%Y:%H:%M:%S %z", "UTC", "01/Feb/2014:13:45:00 -0700", "2014-02-01T20:45:00Z"),
    ],
)
def test_times_are_read_as_they_are_written(form: str, zone: str, text: str, said: str) -> None:
    assert text_of_us(Times(form, ZoneInfo(zone)).read(text)) == said


MALFORMED = [
    ("2014-04-01,x", "value: found 'x', expected a number, or nothing"),
    ("2014-04-01,1_0", "value: found '1_0', expected a number"),
    ("2014-04-01,inf", "value: found 'inf', expected a number"),
    ("2014-04-01,1e999", "value: found '1e999', expected a number"),
    ("2014-04-01,\u0661", "expected a number"),
    ("yesterday,1", "found 'yesterday', expected a time such as"),
    (",1", "found nothing, expected a time such as"),
    ("2014-13-01,1", "found '2014-13-01', expected a time"),
    ("1969-12-31,1", "expected one in the years 1970 to 9999"),
    ("999999999999999999999,1", "expected a time such as"),
    ("2014-04-01", "found 1 cells, expected 2, as in the first line"),
    ("2014-04-01,1,2", "found 3 cells, expected 2"),
    ('2014-04-01,"1', "found a row that cannot be taken apart"),
    ('2014-04-01,"1"x', "found a row that cannot be taken apart"),
    ("2014-04-01,\udcff", "found bytes that are no UTF-8"),
]


@pytest.mark.parametrize(("row", "said"), MALFORMED)
def test_a_bad_row_is_refused_with_its_line_or_counted(row: str, said: str) -> None:
    text = f"timestamp,value\n2014-04-01,1\n\n{row}\n2014-04-02,2\n".encode(errors="surrogateescape")
    with pytest.raises(UnreadableInputError, match=r"shop\.csv, line 4: .*--skip-bad") as refused:
        found(PLAIN, text)
    assert said in str(refused.value)
    inputs = Inputs(skip_bad=True)
    assert [value for *_, value in samples(found(PLAIN, text, inputs=inputs))] == [1.0, 2.0]
    assert inputs.bad == 1
    assert said in inputs.first_bad[0]


@pytest.mark.parametrize(
    ("importer", "text", "said"),
    [
        (PLAIN, "", "found an empty file"),
        (PLAIN, "\n\n", "found an empty file"),
        (PLAIN, "2014-04-01,1\n", "line 1: found the time '2014-04-01' where the columns are named; say --no-header"),
        (PLAIN, "timestamp\n", "expected one with values besides"),
        (PLAIN, "t,a,a\n", "found columns with the same name (a)"),
        (PLAIN, 't,"a\n', "line 1: found a row that cannot be taken apart"),
        (MetricCsv(time_column="when"), "t,value\n", "found the columns t, value, expected one called 'when'"),
        (MetricCsv(metric="cpu"), "t,a,b\n", "found values in the columns a, b for one metric"),
        (PLAIN, "t,value\n" + "x" * 1_100_000, "line 2: found a line of more than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_series_is_refused_whatever_is_skipped(importer: MetricCsv, text: str, said: str) -> None:
    with pytest.raises(UnreadableInputError) as refused:
        found(importer, text, inputs=Inputs(skip_bad=True))
    assert said in str(refused.value)


def test_of_a_bad_row_nothing_is_taken() -> None:
    inputs = Inputs(skip_bad=True)
    assert samples(found(PLAIN, "t,a,b\n2014-04-01,1,x\n", inputs=inputs)) == []
    assert inputs.bad == 1


_ROWS = st.lists(
    st.tuples(moments(), st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.text(max_size=9)), max_size=20
)


@given(_ROWS, st.sampled_from(["iso", "s", "ms", "us", "ns"]))
def test_what_is_written_is_read_back(rows: list[tuple[datetime, float | None, str]], form: str) -> None:
    # What a cell of one line holds: no line ends, and no spaces around it.
    cells = [(at, value, " ".join(label.replace("\0", "").split())) for at, value, label in rows]
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", "value", "label"])
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    whole = []
    for at, value, label in cells:
        at_us = (at - datetime(1970, 1, 1, tzinfo=UTC)) // (from_us(1) - from_us(0))
        count = at_us * per_second.get(form, 1) // 10**6
        writer.writerow([at.isoformat() if form == "iso" else count, "" if value is None else repr(value), label])
        whole.append((at_us if form == "iso" else count * 10**6 // per_second[form], value, label))
    inputs = Inputs()
    importer = replace(PLAIN, label_columns=("label",), times=Times("" if form == "iso" else form))
    read = found(importer, text.getvalue(), inputs=inputs)
    said: list[Any] = [each.payload for each in read]
    assert [(each.at_us, payload.value) for each, payload in zip(read, said, strict=True)] == [
        (at_us, value) for at_us, value, _ in whole if value is not None
    ]
    assert [each.labels.get("label", "") for each in said] == [label for _, value, label in whole if value is not None]
    assert inputs.gaps == sum(value is None for _, value, _ in whole)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_as_input(content: bytes) -> None:
    for importer in (PLAIN, MetricCsv(header=False)):
        with suppress(UnreadableInputError):
            found(importer, content, inputs=Inputs(skip_bad=True))


def test_how_far_the_reading_has_come_is_told_in_bytes() -> None:
    told: list[int] = []
    text = "timestamp,value\n" + "2014-04-01,1\n" * 30_000
    assert len(found(PLAIN, text, inputs=Inputs(progress=told.append))) == 30_000
    assert len(told) > 1
    assert sum(told) == len(text)
