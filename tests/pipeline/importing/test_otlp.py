"""OTLP as JSON: logs, gauges and sums."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pipeline.importing.inputs import Inputs, UnreadableInputError
from pipeline.importing.otlp import Otlp
from tests.pipeline.importing.reading import found, lines, samples

RESOURCE = {
    "attributes": [
        {"key": "service.name", "value": {"stringValue": "web"}},
        {"key": "host.id", "value": {"intValue": "7"}},
    ]
}
AT = "1772366400000000999"


def log(**record: Any) -> dict[str, Any]:
    record = {"timeUnixNano": AT, "body": {"stringValue": "hello"}, **record}
    scope = {"scope": {"name": "main"}, "logRecords": [record]}
    return {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [scope]}]}


def metric(**kind: Any) -> dict[str, Any]:
    scope = {"metrics": [{"name": "cpu", "unit": "s", **kind}]}
    return {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [scope]}]}


def point(**said: Any) -> dict[str, Any]:
    return metric(gauge={"dataPoints": [{"timeUnixNano": AT, **said}]})


def test_logs_have_their_resource_their_level_and_their_attributes() -> None:
    content = orjson.dumps(
        log(severityNumber=18, attributes=[{"key": "ok", "value": {"boolValue": True}}]), option=orjson.OPT_INDENT_2
    )
    observations = found(Otlp(), content)
    assert lines(observations) == [("2026-03-01T12:00:00Z", "web", "error", "hello")]
    said: Any = observations[0].payload
    assert (said.logger, dict(said.labels)) == ("main", {"host.id": "7", "ok": "true"})


def test_a_body_may_be_a_map_and_the_time_the_one_of_observing() -> None:
    body: dict[str, Any] = {"kvlistValue": {"values": []}}
    record = log(timeUnixNano="0", observedTimeUnixNano=1772366401000000000, body=body)
    assert lines(found(Otlp(), orjson.dumps(record))) == [
        ("2026-03-01T12:00:01Z", "web", "info", '{"kvlistValue":{"values":[]}}')
    ]


def test_gauges_and_sums_are_samples_and_the_rest_is_counted() -> None:
    inputs = Inputs()
    points = [
        {"timeUnixNano": AT, "asInt": "5"},
        {"timeUnixNano": AT, "asDouble": 0.5},
        {"flags": 1},
        {"asDouble": "NaN"},
    ]
    documents = [
        metric(gauge={"dataPoints": points}),
        metric(sum={"dataPoints": points[:1], "isMonotonic": True}),
        metric(histogram={"dataPoints": []}),
        {"resourceSpans": [{}]},
    ]
    observations = found(Otlp(service="shop"), b"\n".join(map(orjson.dumps, documents)), inputs=inputs)
    assert [(*said[1:3], said[3]) for said in samples(observations)] == [
        ("shop", "cpu", 5.0), ("shop", "cpu", 0.5), ("shop", "cpu", 5.0),
    ]  # fmt: skip
    assert inputs.gaps == 2
    assert inputs.left_out == {"metrics that are neither gauges nor sums": 1, "spans of a resource": 1}


NAMELESS: dict[str, Any] = {"resourceLogs": [{"scopeLogs": []}]}
LOG_AT = "resourceLogs[0].scopeLogs[0].logRecords[0]"
POINT_AT = "resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints[0]"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "found a list, expected an object"),
        ({"a": 1}, "found the fields ['a'], expected one of resourceLogs"),
        ({"resourceLogs": 5}, "resourceLogs: found 5, expected a list"),
        (NAMELESS, "resourceLogs[0].resource: found nothing, expected the attribute service.name"),
        (log(timeUnixNano="x"), f"{LOG_AT}.timeUnixNano: found 'x', expected a whole number"),
        (log(timeUnixNano=None), f"{LOG_AT}.timeUnixNano: found nothing, expected a whole number"),
        (log(timeUnixNano="-1"), f"{LOG_AT}: found a time"),
        (log(severityNumber="x"), f"{LOG_AT}.severityNumber: found 'x'"),
        (log(attributes=[{"key": 5}]), f"{LOG_AT}.attributes[0].key: found 5, expected text"),
        (point(asDouble="x"), f"{POINT_AT}.asDouble: found 'x', expected a number"),
        (point(), f"{POINT_AT}.asDouble: found nothing, expected a number"),
        (point(asInt="--5"), f"{POINT_AT}.asInt: found '--5', expected a whole number"),
        (point(asInt="5", timeUnixNano=None), f"{POINT_AT}.timeUnixNano: found nothing"),
        (metric(sum=[]), "resourceMetrics[0].scopeMetrics[0].metrics[0].sum: found a list, expected an object"),
    ],
)
def test_what_is_no_otlp_is_refused_with_its_place_or_counted(document: Any, said: str) -> None:
    content = orjson.dumps(document)
    with pytest.raises(UnreadableInputError) as refused:
        found(Otlp(), content)
    assert f"shop.csv, line 1: {said}" in str(refused.value)
    inputs = Inputs(skip_bad=True)
    assert found(Otlp(), content, inputs=inputs) == []
    assert inputs.bad == 1
