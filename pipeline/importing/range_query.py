"""What Prometheus answers to a range query (``/api/v1/query_range``): a matrix, one series for each set of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.importing.inputs import Inputs, brief, expect_list, expect_object, parsed
from pipeline.importing.metric_csv import number_in
from pipeline.importing.observation import Observation, signal
from pipeline.sources.formats.alertmanager import service_of
from pipeline.sources.formats.body import MalformedBodyError, naming
from topology.errors import BadInputError
from topology.payloads.signals import MetricSampled, Signal

_NAME = "__name__"
_PAIR = 2
_SECONDS_MAX = 253_402_300_800
"""Where the year 9999 ends."""


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """How such files are to be read; each is one JSON document, or has one on each line.

    Attributes:
        service: of all series; by default the first of their labels that names one, as for alerts.
        metric: of series without a name, as functions and aggregations leave them.
    """

    service: str = ""
    metric: str = ""
    unit: str = "1"
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = "import:prometheus"
    gives: tuple[type[Signal], ...] = (MetricSampled,)
    repeats: bool = False

    def read(self, path: Path, inputs: Inputs) -> Iterator[Observation]:
        """See :class:`pipeline.importing.observation.Importer`; ranges that overlap are taken once."""
        for where, raw in inputs.documents(path):
            place = where or "the document"
            try:
                result = _result(parsed(raw))
            except BadInputError as error:
                inputs.refuse(path, place, error)
                continue
            for number, series in enumerate(result):
                at = f"result[{number}]"
                try:
                    labels, name, service = self._named(series, at)
                    if "histograms" in series:
                        inputs.left_out["native histograms"] += 1
                    values = expect_list(series.get("values", []), field=f"{at}.values")
                except BadInputError as error:
                    inputs.refuse(path, place, error)
                    continue
                for index, pair in enumerate(values):
                    try:
                        at_us, value = _sample(pair, f"{at}.values[{index}]")
                        if value is None:
                            inputs.gaps += 1
                            continue
                        with naming(at):
                            payload = signal(
                                MetricSampled, service=service, metric=name, value=value, unit=self.unit, labels=labels
                            )
                        found = Observation(at_us, payload)
                    except BadInputError as error:
                        inputs.refuse(path, place, error)
                        continue
                    yield found

    def _named(self, series: Any, at: str) -> tuple[dict[str, str], str, str]:
        said = expect_object(expect_object(series, field=at).get("metric"), field=f"{at}.metric")
        for label, value in said.items():
            if not isinstance(value, str):
                raise MalformedBodyError(brief(value), "text", field=f"{at}.metric.{label}")
        name = said.get(_NAME) or self.metric
        if not name:
            expected = "the name of the metric; say it with --metric"
            raise MalformedBodyError("nothing", expected, field=f"{at}.metric.{_NAME}")
        labels = {**{label: value for label, value in said.items() if label != _NAME}, **self.labels}
        return labels, name, self.service or service_of(labels, otherwise=name)


def _result(document: Any) -> list[Any]:
    said = expect_object(document, field="", what="what Prometheus answers to a range query, an object")
    if said.get("status") not in (None, "success"):
        found = f"{brief(said['status'])} ({brief(said.get('error'))})"
        raise MalformedBodyError(found, "a query that succeeded", field="status")
    data = expect_object(said.get("data", said), field="data")
    if data.get("resultType") != "matrix":
        expected = "'matrix', the answer to a range query (/api/v1/query_range)"
        raise MalformedBodyError(brief(data.get("resultType")), expected, field="data.resultType")
    return expect_list(data.get("result"), field="data.result")


def _sample(pair: Any, at: str) -> tuple[int, float | None]:
    found = expect_list(pair, field=at, what="a time and a value")
    if len(found) != _PAIR or isinstance(found[0], bool) or not isinstance(found[0], int | float):
        raise MalformedBodyError("something else", "a time and a value, such as [1769851800.5, '1']", field=at)
    if not 0 <= found[0] < _SECONDS_MAX:
        raise MalformedBodyError(brief(found[0]), "seconds since 1970", field=f"{at}[0]")
    if not isinstance(found[1], str):
        raise MalformedBodyError(brief(found[1]), "a number as text", field=f"{at}[1]")
    # By its digits: multiplied as a binary fraction, a time would be off by a microsecond now and then.
    return int(Decimal(repr(found[0])) * 1_000_000), number_in(found[1], field=f"{at}[1]")
