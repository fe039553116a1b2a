"""Series of metrics as CSV: one row for each moment, with one value or several.

    timestamp,value                    the metric is called ``value``, and the service as the file, unless options say else
    time,host,cpu,memory               ``--service-column host``: two metrics of each host

A cell without a value is a gap, and stays one.  Rows need not be in order, and may come twice: both are kept.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from pipeline.importing.inputs import Inputs, UnreadableInputError
from pipeline.importing.observation import Observation, signal
from pipeline.importing.times import Times
from pipeline.sources.formats.body import MalformedBodyError, show
from topology.errors import BadInputError
from topology.payloads.signals import MetricSampled, Signal

_LINE_BYTES_MAX = 1 << 20
_TIME_NAMES = ("timestamp", "time", "datetime", "date", "ts", "@timestamp")
_VALUE_NAME = "value"
_GAPS = frozenset({"", "nan", "null", "none", "na", "n/a", "undefined"})
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in a row everything stands."""

    width: int
    time: int
    service: int | None
    metric: int | None
    labels: Mapping[str, int]
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MetricCsv:
    """How such a file is to be read; what is empty is as the file's first line says.

    Attributes:
        service: of all rows; by default the name of the file, without its ending.
        metric: of the values; by default the name of their column.
        header: whether the first line names the columns; else they are called 1, 2, and so on.
    """

    service: str = ""
    service_column: str = ""
    metric: str = ""
    metric_column: str = ""
    time_column: str = ""
    value_columns: tuple[str, ...] = ()
    label_columns: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    unit: str = "1"
    delimiter: str = ","
    header: bool = True
    times: Times = field(default_factory=Times)
    source: str = "import:csv"
    gives: tuple[type[Signal], ...] = (MetricSampled,)
    repeats: bool = True

    def read(self, path: Path, inputs: Inputs) -> Iterator[Observation]:
        """See :class:`pipeline.importing.observation.Importer`; of a bad row nothing is taken."""
        layout: _Layout | None = None
        for number, line in inputs.lines(path, bytes_max=_LINE_BYTES_MAX):
            where = f"line {number}"
            try:
                cells = self._cells(line)
            except BadInputError as error:
                if layout is None:
                    raise UnreadableInputError(path, where, error) from error
                inputs.refuse(path, where, error)
                continue
            if layout is None:
                names = cells if self.header else [str(each) for each in range(1, len(cells) + 1)]
                try:
                    layout = self._layout(names)
                except BadInputError as error:
                    raise UnreadableInputError(path, where, error) from error
                if self.header:
                    self._expect_names(path, where, cells[layout.time])
                    continue
            try:
                found = list(self._row(path, layout, cells, inputs))
            except BadInputError as error:
                inputs.refuse(path, where, error)
                continue
            yield from found

    def _cells(self, line: bytes) -> list[str]:
        """The cells of one line: a quote that is not closed costs its line, and not all that follow."""
        try:
            [cells] = csv.reader([line.decode("utf-8-sig")], delimiter=self.delimiter, strict=True)
        except UnicodeDecodeError as error:
            raise MalformedBodyError(f"bytes that are no UTF-8 ({error.reason})", "text") from error
        except csv.Error as error:
            raise MalformedBodyError(f"a row that cannot be taken apart ({error})", "cells of one line") from error
        return [cell.strip() for cell in cells]

    def _layout(self, names: Sequence[str]) -> _Layout:
        places = {name: at for at, name in enumerate(names)}
        if len(places) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise MalformedBodyError(f"columns with the same name ({', '.join(twice)})", "a name for each column")

        def place(name: str) -> int:
            if name not in places:
                raise MalformedBodyError(f"the columns {', '.join(names)}", f"one called {name!r}")
            return places[name]

        time = place(self.time_column) if self.time_column else self._time(names)
        service = place(self.service_column) if self.service_column else None
        metric = place(self.metric_column) if self.metric_column else None
        labels = {name: place(name) for name in self.label_columns}
        taken = {time, service, metric, *labels.values()}
        values = {name: place(name) for name in self.value_columns}
        if not values:
            values = {name: at for name, at in places.items() if at not in taken}
            called = {name: at for name, at in values.items() if name.lower() == _VALUE_NAME}
            values = called or values
        if not values:
            raise MalformedBodyError(f"the columns {', '.join(names)}", "one with values besides")
        if len(values) > 1 and (self.metric or self.metric_column):
            raise MalformedBodyError(
                f"values in the columns {', '.join(values)} for one metric", "one of them, named by --value-column"
            )
        return _Layout(len(names), time, service, metric, labels, values)

    def _time(self, names: Sequence[str]) -> int:
        lower = [name.lower() for name in names]
        return next((lower.index(name) for name in _TIME_NAMES if name in lower), 0)

    def _expect_names(self, path: Path, where: str, cell: str) -> None:
        try:
            self.times.read(cell)
        except BadInputError:
            return
        found = f"found the time {cell!r} where the columns are named"
        raise UnreadableInputError(path, where, found, "say --no-header when the file has no such line")

    def _row(self, path: Path, layout: _Layout, cells: Sequence[str], inputs: Inputs) -> Iterator[Observation]:
        if len(cells) != layout.width:
            raise MalformedBodyError(f"{len(cells)} cells", f"{layout.width}, as in the first line")
        at_us = self.times.read(cells[layout.time])
        service = self.service or (path.stem if layout.service is None else cells[layout.service])
        labels = {**self.labels, **{name: cells[at] for name, at in layout.labels.items() if cells[at]}}
        for column, at in layout.values.items():
            value = number_in(cells[at], field=column)
            if value is None:
                inputs.gaps += 1
                continue
            metric = self.metric or (column if layout.metric is None else cells[layout.metric])
            yield Observation(
                at_us,
                signal(MetricSampled, service=service, metric=metric, value=value, unit=self.unit, labels=labels),
            )


def number_in(text: str, *, field: str) -> float | None:
    """The number a text says; None where it says that there is none.

    Raises:
        MalformedBodyError: it says something else, or more than a number can hold.
    """
    if text.strip().lower() in _GAPS:
        return None
    value = float(text) if _NUMBER.fullmatch(text.strip()) else float("inf")
    if not isfinite(value):
        raise MalformedBodyError(show(text), "a number, or nothing", field=field)
    return value
