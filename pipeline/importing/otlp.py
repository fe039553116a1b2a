"""OTLP as JSON, as the OpenTelemetry collector's file exporter writes it: logs, and metrics that are gauges or sums.

Each file is one JSON document, or has one on each line.  Histograms, summaries and spans say what no event can; they are
counted and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.importing.inputs import Inputs, as_text, brief, expect_list, expect_object, parsed
from pipeline.importing.observation import Observation, signal
from pipeline.sources.formats.body import MalformedBodyError, naming
from topology.errors import BadInputError
from topology.payloads.signals import LogLevel, LogWritten, MetricSampled, Signal

_SERVICE = "service.name"
_KNOWN = ("resourceLogs", "resourceMetrics", "resourceSpans")
_POINTS = ("gauge", "sum")
_NO_VALUE = 1
"""The flag of a data point that says that there is no value."""
_NUMBERED_LEVELS: tuple[tuple[int, LogLevel], ...] = (
    (1, "info"), (5, "trace"), (9, "debug"), (13, "info"), (17, "warning"), (21, "error"),
)  # fmt: skip
"""Below which severity number a level is which; 0 is none."""
_SCALARS = ("stringValue", "boolValue", "intValue", "doubleValue", "bytesValue")


@dataclass(frozen=True, slots=True)
class Otlp:
    """How such files are to be read.

    Attributes:
        service: of everything; by default the resource's ``service.name``.
    """

    service: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = "import:otlp"
    gives: tuple[type[Signal], ...] = (LogWritten, MetricSampled)
    repeats: bool = True

    def read(self, path: Path, inputs: Inputs) -> Iterator[Observation]:
        """See :class:`pipeline.importing.observation.Importer`; of a bad resource nothing is taken."""
        for where, raw in inputs.documents(path):
            place = where or "the document"
            try:
                document = expect_object(parsed(raw), field="")
                if not set(_KNOWN) & set(document):
                    raise MalformedBodyError(f"the fields {sorted(document)[:5]}", f"one of {', '.join(_KNOWN)}")
                resources = [
                    (name, number, each)
                    for name in _KNOWN
                    for number, each in enumerate(expect_list(document.get(name, []), field=name))
                ]
            except BadInputError as error:
                inputs.refuse(path, place, error)
                continue
            for name, number, resource in resources:
                if name == "resourceSpans":
                    inputs.left_out["spans of a resource"] += 1
                    continue
                try:
                    with naming(f"{name}[{number}]"):
                        read = self._logs if name == "resourceLogs" else self._metrics
                        found = list(read(expect_object(resource, field=""), inputs))
                except BadInputError as error:
                    inputs.refuse(path, place, error)
                    continue
                yield from found

    def _logs(self, resource: Mapping[str, Any], inputs: Inputs) -> Iterator[Observation]:
        del inputs
        service, labels = self._resource(resource)
        for at, scope in _each(resource, "scopeLogs"):
            logger = _text(expect_object(scope.get("scope", {}), field=f"{at}.scope").get("name"))
            for place, record in _each(scope, "logRecords", at):
                with naming(place):
                    moment = record.get("timeUnixNano")
                    if moment in (None, 0, "0"):
                        moment = record.get("observedTimeUnixNano")
                    payload = signal(
                        LogWritten,
                        service=service,
                        labels={**_attributes(record), **labels},
                        message=_text(_plain(record.get("body"))),
                        level=_level(record),
                        logger=logger,
                    )
                    said = Observation(_whole(moment, "timeUnixNano") // 1_000, payload)
                yield said

    def _metrics(self, resource: Mapping[str, Any], inputs: Inputs) -> Iterator[Observation]:
        service, labels = self._resource(resource)
        for at, scope in _each(resource, "scopeMetrics"):
            for place, metric in _each(scope, "metrics", at):
                kind = next((name for name in _POINTS if name in metric), None)
                if kind is None:
                    inputs.left_out["metrics that are neither gauges nor sums"] += 1
                    continue
                data = expect_object(metric[kind], field=f"{place}.{kind}")
                for point_at, point in _each(data, "dataPoints", f"{place}.{kind}"):
                    with naming(point_at):
                        value = _value(point)
                        if value is None:
                            inputs.gaps += 1
                            continue
                        payload = signal(
                            MetricSampled,
                            service=service,
                            labels={**_attributes(point), **labels},
                            metric=metric.get("name"),
                            unit=metric.get("unit") or "1",
                            value=value,
                        )
                        said = Observation(_whole(point.get("timeUnixNano"), "timeUnixNano") // 1_000, payload)
                    yield said

    def _resource(self, resource: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        attributes = _attributes(expect_object(resource.get("resource", {}), field="resource"))
        named = attributes.pop(_SERVICE, "")
        service = self.service or named
        if not service:
            raise MalformedBodyError("nothing", "the attribute service.name; or say --service", field="resource")
        return service, {**attributes, **self.labels}


def _each(container: Mapping[str, Any], name: str, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a list of an object, and the place of each."""
    place = f"{at}.{name}" if at else name
    for number, item in enumerate(expect_list(container.get(name, []), field=place)):
        yield f"{place}[{number}]", expect_object(item, field=f"{place}[{number}]")


def _attributes(holder: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for place, attribute in _each(holder, "attributes"):
        key = attribute.get("key")
        if not isinstance(key, str):
            raise MalformedBodyError(brief(key), "text", field=f"{place}.key")
        found[key] = _text(_plain(attribute.get("value")))
    return found


def _plain(value: object) -> object:
    """What an ``AnyValue`` says; lists and maps as the JSON they came as."""
    if not isinstance(value, dict):
        return value
    return next((value[name] for name in _SCALARS if name in value), value)


def _text(value: object) -> str:
    return "" if value is None else as_text(value)


def _value(point: Mapping[str, Any]) -> float | None:
    """The value of a data point; None where it says that it has none."""
    flags = point.get("flags", 0)
    if isinstance(flags, int) and flags & _NO_VALUE:
        return None
    if "asInt" in point:
        return float(_whole(point["asInt"], "asInt"))
    found = point.get("asDouble")
    if found == "NaN":
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        raise MalformedBodyError(brief(found), "a number", field="asDouble")
    return float(found)


def _whole(value: object, name: str) -> int:
    """A whole number of 64 bits, which JSON for protocol buffers writes as text."""
    if isinstance(value, str) and value.lstrip("-").isdecimal() and value.isascii() and len(value) <= 20:
        return int(value) if value.count("-") <= 1 else _not_whole(value, name)
    return value if isinstance(value, int) and not isinstance(value, bool) else _not_whole(value, name)


def _not_whole(value: object, name: str) -> int:
    raise MalformedBodyError(brief(value), "a whole number", field=name)


def _level(record: Mapping[str, Any]) -> LogLevel:
    number = record.get("severityNumber", 0)
    if isinstance(number, bool) or not isinstance(number, int):
        raise MalformedBodyError(brief(number), "a whole number", field="severityNumber")
    return next((level for below, level in _NUMBERED_LEVELS if number < below), "critical")
