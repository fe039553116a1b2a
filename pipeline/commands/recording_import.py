"""``aiops recording import``: a recording of what other programs wrote to files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import wraps
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from pipeline.commands.output import counted
from pipeline.commands.recording import print_report, recording, refuse_to_replace, report_of
from pipeline.console.meter import Meter
from pipeline.importing.alert_history import AlertHistory
from pipeline.importing.in_order import InOrder
from pipeline.importing.inputs import Inputs
from pipeline.importing.log_text import LogText
from pipeline.importing.metric_csv import MetricCsv
from pipeline.importing.observation import Importer
from pipeline.importing.otlp import Otlp
from pipeline.importing.range_query import RangeQuery
from pipeline.importing.times import UNITS_US, Times
from pipeline.loading import load_agent, read_topology
from pipeline.recordings.header import Header, Part
from pipeline.recordings.writer import new_recording
from topology.check import SOURCES_WRITE
from topology.digest import topology_digest
from topology.errors import ConfigurationError, UsageError
from topology.graph import Stream
from topology.resolve import resolve

(_INTAKE,) = SOURCES_WRITE

Verb = Callable[..., None]


@recording.group("import")
def import_() -> None:
    """Make a recording of FILES that other programs wrote: what a backtest or a replay puts on the intake.

    Events are in order of their time, whatever the order of files and lines, and the same files give the same events.
    Secrets and personal data are masked. What cannot be understood is refused with file and place.
    """


@dataclass(frozen=True, slots=True)
class _Job:
    """What every format is asked: which files become which recording, and what to do about what is in the way."""

    files: Sequence[Path]
    out: Path
    topology: Path | None
    skip_bad: bool
    force: bool
    as_json: bool


def _common(verb: Verb) -> Verb:
    """The arguments that every format has, as its first one."""

    @wraps(verb)
    def called(
        files: tuple[Path, ...],
        out: Path,
        topology: Path | None,
        skip_bad: bool,
        force: bool,
        as_json: bool,
        **of_the_format: Any,
    ) -> None:
        verb(_Job(files, out, topology, skip_bad, force, as_json), **of_the_format)

    with_arguments: Verb = called
    for add in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--force", is_flag=True, help="Replace the file if there is one."),
        click.option("--skip-bad", is_flag=True, help="Count what cannot be understood, instead of refusing the file."),
        click.option("--topology", type=click.Path(path_type=Path), help="Whose intake; the shipped topology's by default."),
        click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to be written."),
        click.argument("files", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1, required=True),
    ):  # fmt: skip
        with_arguments = add(with_arguments)
    return with_arguments


_SERVICE = click.option("--service", default="", help="Whom everything is about.")
_LABELS = click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Put on everything; repeatable.")
_UNIT = click.option("--unit", default="1", show_default=True, help="Of the values, in UCUM terms.")
_ZONE = click.option("--zone", default="UTC", show_default=True, help="Of times that name none, such as Europe/Berlin.")
_TIME_FORMAT = click.option(
    "--time-format", default="", metavar="s|ms|us|ns|PATTERN", help="A number since 1970, or as for strptime; else ISO 8601 or a number."
)  # fmt: skip


@import_.command("csv")
@_common
@_SERVICE
@click.option("--service-column", default="", help="Names the service, row by row.")
@click.option("--metric", default="", help="What the values are of; by default the name of their column.")
@click.option("--metric-column", default="", help="Names the metric, row by row.")
@click.option("--time-column", default="", help="By default timestamp, time, datetime, date or ts, else the first.")
@click.option(
    "--value-column", "value_columns", multiple=True, help="By default value, else all that are left; repeatable."
)
@click.option("--label-column", "label_columns", multiple=True, help="Becomes a label; repeatable.")
@_LABELS
@_UNIT
@click.option("--delimiter", default=",", show_default=True, help="Between cells; \\t for a tab.")
@click.option("--no-header", is_flag=True, help="The first line has values; columns are called 1, 2, and so on.")
@_TIME_FORMAT
@_ZONE
def csv(
    job: _Job,
    labels: tuple[str, ...],
    delimiter: str,
    no_header: bool,
    time_format: str,
    zone: str,
    **columns: Any,
) -> None:
    """Series of metrics: FILES with one row for each moment, such as timestamp,value.

    Without --service, each file's name is its service. An empty cell is a gap and stays one; what comes twice, counts twice.
    """
    for one, other in (("service", "service_column"), ("metric", "metric_column")):
        if columns[one] and columns[other]:
            raise UsageError(f"found both --{one} and --{other.replace('_', '-')}, expected one of them")
    delimiter = "\t" if delimiter in ("\\t", "tab") else delimiter
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise UsageError(f"found --delimiter {delimiter!r}, expected one character that is no quote and no line end")
    times = _times(time_format, zone)
    importer = MetricCsv(
        labels=_labels(labels), delimiter=delimiter, header=not no_header, times=times, **columns
    )  # fmt: skip
    _import(importer, job)


@import_.command("logs")
@_common
@_SERVICE
@_LABELS
@_TIME_FORMAT
@_ZONE
def logs(
    job: _Job,
    service: str,
    labels: tuple[str, ...],
    time_format: str,
    zone: str,
) -> None:
    """Logs: FILES of entries with a time in front, of one line or several, or lines of JSON.

    Without --service, a file's name up to its first dot is its service, unless an entry in JSON names one. An entry without a time
    has that of the one before it. --time-format is for JSON.
    """
    importer = LogText(service=service, labels=_labels(labels), times=_times(time_format, zone))
    _import(importer, job)


@import_.command("alertmanager")
@_common
def alertmanager(
    job: _Job,
) -> None:
    """Alerts: FILES with bodies of Alertmanager's webhook, or with alerts as its API (v2) lists them.

    JSON, one document for a file or one on each line. What was repeated is taken once.
    """
    _import(AlertHistory(), job)


@import_.command("prometheus")
@_common
@_SERVICE
@click.option("--metric", default="", help="The name of series that have none.")
@_LABELS
@_UNIT
def prometheus(
    job: _Job,
    service: str,
    metric: str,
    labels: tuple[str, ...],
    unit: str,
) -> None:
    """Series of metrics: FILES with what Prometheus answers to range queries (/api/v1/query_range).

    Without --service, the labels say it: service, job, app, pod, instance and their like. Ranges may overlap.
    """
    importer = RangeQuery(service=service, metric=metric, unit=unit, labels=_labels(labels))
    _import(importer, job)


@import_.command("otlp")
@_common
@_SERVICE
@_LABELS
def otlp(
    job: _Job,
    service: str,
    labels: tuple[str, ...],
) -> None:
    """Logs, gauges and sums: FILES of OTLP as JSON, as the OpenTelemetry collector's file exporter writes them.

    Histograms, summaries and spans are counted and left out.
    """
    importer = Otlp(service=service, labels=_labels(labels))
    _import(importer, job)


def _import(importer: Importer, job: _Job) -> None:
    files, out = job.files, job.out
    refuse_to_replace(out, force=job.force)
    if out.resolve() in {file.resolve() for file in files}:
        raise UsageError(f"found {out} among the files to be imported, expected another one for the recording")
    stream, part = _destination(importer, job.topology)
    header = Header.of([stream], part)
    with InOrder(stream, out.parent, repeats=importer.repeats) as events:
        size = sum(file.stat().st_size for file in files)
        with click.progressbar(length=size, label="reading", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            inputs = Inputs(skip_bad=job.skip_bad, progress=bar.update)
            for file in files:
                for found in importer.read(file, inputs):
                    events.add(found.event(importer.source))
        with Meter("importing", None, 0, total=events.added) as meter, new_recording(out, header) as writer:
            for record in events.records():
                meter.count(record)
                writer.add(record)
    report = report_of(out, header, writer) | {
        "bad": inputs.bad,
        "first_bad": inputs.first_bad,
        "gaps": inputs.gaps,
        "repeated": events.repeated,
        "left_out": dict(inputs.left_out.most_common()),
    }
    print_report(report, as_json=job.as_json)
    if not job.as_json:
        _tell_what_is_not_in_it(report, kept=importer.repeats)


def _tell_what_is_not_in_it(report: Mapping[str, Any], *, kept: bool) -> None:
    if report["repeated"]:
        said = "kept" if kept else "taken once"
        click.echo(f"  {counted(report['repeated'], 'event')} said what another did at the same time: {said}")
    if report["gaps"]:
        click.echo(f"  {counted(report['gaps'], 'gap')} without a value")
    for what, count in report["left_out"].items():
        click.echo(f"aiops: left out: {what} ({count:,})", err=True)
    if report["bad"]:
        click.echo(
            f"aiops: left out {counted(report['bad'], 'item')} that could not be understood, the first:", err=True
        )
        for each in report["first_bad"]:
            click.echo(f"  {each}", err=True)


def _destination(importer: Importer, topology: Path | None) -> tuple[Stream, Part]:
    """The intake of a topology, and what the recording says of it."""
    parsed = read_topology(topology)
    stream = resolve(parsed, load_agent).streams.get(_INTAKE)
    carried = frozenset() if stream is None else frozenset(stream.carries)
    missing = sorted(each.__name__ for each in importer.gives if each not in carried)
    if stream is None or missing:
        found = f"a topology whose stream {_INTAKE!r} does not carry {', '.join(missing)}"
        raise ConfigurationError(f"found {found}, expected it: sources publish to it")
    digest = topology_digest(parsed.spec)
    return stream, Part(recorded_at=datetime.now(UTC), topology=parsed.spec.name, digest=digest)


def _times(form: str, zone: str) -> Times:
    if form and form not in UNITS_US and "%" not in form:
        raise UsageError(
            f"found --time-format {form!r}, expected one of {', '.join(UNITS_US)}, or a pattern such as %d.%m.%Y %H:%M"
        )
    return Times(form, _zone(zone))


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise UsageError(f"found --zone {name!r}, expected the name of a time zone, such as Europe/Berlin") from error


def _labels(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for (name, equals, _), text in zip(pairs, texts, strict=True):
        if not name or not equals:
            raise UsageError(f"found --label {text!r}, expected NAME=VALUE")
    return {name: value for name, _, value in pairs}
