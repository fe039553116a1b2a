"""Prometheus' answers to range queries."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pipeline.importing.inputs import Inputs, UnreadableInputError
from pipeline.importing.range_query import RangeQuery
from tests.pipeline.importing.reading import found, samples

NAMED = {"__name__": "up", "job": "web", "instance": "a:9100"}


def answer(*series: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(series)}}


def one(values: Any, metric: Any = NAMED) -> dict[str, Any]:
    return answer({"metric": metric, "values": values})


def test_each_series_has_its_name_its_labels_and_the_service_they_say() -> None:
    inputs = Inputs()
    values = [[1435781430.781, "1"], [1435781445, "NaN"], [1435781460.000001, "-2.5e-3"]]
    content = orjson.dumps(
        answer({"metric": NAMED, "values": values}, {"metric": {}, "values": [[1, "2"]]}), option=orjson.OPT_INDENT_2
    )
    observations = found(RangeQuery(metric="load"), content, inputs=inputs)
    assert samples(observations) == [
        ("2015-07-01T20:10:30.781000Z", "web", "up", 1.0),
        ("2015-07-01T20:11:00.000001Z", "web", "up", -0.0025),
        ("1970-01-01T00:00:01Z", "load", "load", 2.0),
    ]
    said: Any = observations[0].payload
    assert dict(said.labels) == {"job": "web", "instance": "a:9100"}
    assert inputs.gaps == 1


def test_documents_may_come_line_by_line_and_without_the_envelope() -> None:
    bare = {"resultType": "matrix", "result": [{"metric": NAMED, "values": [[5, "1"]]}]}
    content = orjson.dumps(one([[4, "1"]])) + b"\n" + orjson.dumps(bare)
    assert len(found(RangeQuery(service="shop"), content)) == 2


def test_native_histograms_are_counted_and_left_out() -> None:
    inputs = Inputs()
    assert found(RangeQuery(), orjson.dumps(answer({"metric": NAMED, "histograms": []})), inputs=inputs) == []
    assert inputs.left_out == {"native histograms": 1}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "found a list, expected what Prometheus answers"),
        ({"status": "error", "error": "timed out"}, "status: found 'error' ('timed out'), expected a query that"),
        ({"data": {"resultType": "vector", "result": []}}, "data.resultType: found 'vector', expected 'matrix'"),
        ({"data": {"resultType": "matrix"}}, "data.result: found nothing, expected a list"),
        (answer(5), "result[0]: found 5, expected an object"),
        (one([], {"job": 5}), "result[0].metric.job: found 5, expected text"),
        (one([], {"job": "web"}), "result[0].metric.__name__: found nothing, expected the name"),
        (one({}), "result[0].values: found an object, expected a list"),
        (one([[1]]), "result[0].values[0]: found something else, expected a time and a value"),
        (one([["1", "1"]]), "result[0].values[0]: found something else"),
        (one([[1, 1]]), "result[0].values[0][1]: found 1, expected a number as text"),
        (one([[1, "+Inf"]]), "result[0].values[0][1]: found '+Inf', expected a number"),
        (one([[-1, "1"]]), "result[0].values[0][0]: found -1, expected seconds since 1970"),
        (one([[1e300, "1"]]), "result[0].values[0][0]: found 1e+300"),
        (one([[1, "1"]], {"__name__": "x" * 300}), "result[0].payload: "),
    ],
)
def test_what_is_no_matrix_is_refused_with_its_place_or_counted(document: Any, said: str) -> None:
    content = orjson.dumps(document)
    with pytest.raises(UnreadableInputError) as refused:
        found(RangeQuery(), content)
    assert f"shop.csv, line 1: {said}" in str(refused.value)
    inputs = Inputs(skip_bad=True)
    assert found(RangeQuery(), content, inputs=inputs) == []
    assert inputs.bad == 1
