"""``aiops topology``: is it right, what does it look like, what may be written in it, does it do what it should?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipeline.commands.output import counted, print_json
from pipeline.commands.topology_new import new
from pipeline.commands.topology_test import topology_test
from pipeline.loading import SHIPPED, load_agent, load_topology, read_text
from pipeline.main import BAD_CONFIGURATION
from topology.defects import Defect, show_path
from topology.describe import describe as as_text
from topology.durations import show_duration
from topology.graph import Edge, Stage, Stream, Topology
from topology.picture import as_data, dot, mermaid
from topology.schema import event_schemas, tests_schema, topology_schema
from topology.sound_parts import check_text

_FILE = click.argument("file", required=False, type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def topology() -> None:
    """Check, show, test and extend a topology; FILE is by default the one that ships."""


@topology.command()
@_FILE
@_JSON
def check(file: Path | None, as_json: bool) -> None:
    """Show everything that is wrong with FILE, with its line and the way out; exit 78 when it cannot run."""
    defects = _defects(file)
    errors = sum(defect.severity == "error" for defect in defects)
    if as_json:
        print_json({"topology": _name(file), "errors": errors, "defects": [_defect(each) for each in defects]})
    else:
        for defect in defects:
            click.echo(str(defect))
        others = len(defects) - errors
        click.echo(
            f"{_name(file)}: {counted(errors, 'error')}, {counted(others, 'warning or note', 'warnings or notes')}"
        )
    if errors:
        sys.exit(BAD_CONFIGURATION)


@topology.command()
@_FILE
@_JSON
def describe(file: Path | None, as_json: bool) -> None:
    """Tell in words what the streams of FILE carry, and what its stages take and give."""
    found = load_topology(file)
    if as_json:
        print_json(_described(found))
    else:
        click.echo(as_text(found), nl=False)


@topology.command()
@_FILE
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "dot", "json"]), default="mermaid", show_default=True,
    help="For Markdown, for Graphviz, or for a program.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def graph(file: Path | None, form: str, as_json: bool) -> None:
    """Draw which stages of FILE read and write which streams."""
    found = load_topology(file)
    if as_json or form == "json":
        print_json(as_data(found))
    else:
        click.echo(mermaid(found) if form == "mermaid" else dot(found), nl=False)


@topology.command()
@click.option("--events", is_flag=True, help="The schemas of all event types instead, by event type.")
@click.option("--tests", is_flag=True, help="The schema of files of tests instead.")
@_FILE
@click.option("--json", "as_json", is_flag=True, hidden=True)  # there is no other form
def schema(events: bool, tests: bool, file: Path | None, as_json: bool) -> None:
    """Print the JSON Schema of topology files, for editors; `config` is checked for the agents that FILE names."""
    del as_json
    if events:
        print_json(event_schemas())
    elif tests:
        print_json(tests_schema())
    else:
        print_json(topology_schema({stage.spec.agent: stage.agent_class for stage in load_topology(file).stages}))


topology.add_command(topology_test)
topology.add_command(new)


def _defects(file: Path | None) -> tuple[Defect, ...]:
    return check_text(read_text(file), _name(file), load_agent)


def _name(file: Path | None) -> str:
    return str(file) if file else SHIPPED


def _defect(defect: Defect) -> dict[str, Any]:
    return {
        "file": defect.origin,
        "line": defect.line,
        "path": show_path(defect.path),
        "severity": defect.severity,
        "found": defect.found,
        "expected": defect.expected,
        "remedy": defect.remedy,
    }


def _described(found: Topology) -> dict[str, Any]:
    return {
        "name": found.name,
        "streams": {name: _stream(stream) for name, stream in found.streams.items()},
        "stages": [_stage(stage) for stage in found.stages],
    }


def _stream(stream: Stream) -> dict[str, Any]:
    spec = stream.spec
    return {
        "carries": sorted(payload.event_type for payload in stream.carries),
        "key": spec.key,
        "partitions": stream.partitions,
        "ticks": show_duration(spec.ticks) if spec.ticks else None,
        "retain": show_duration(spec.retain) if spec.retain else None,
        "priority": spec.priority,
        "stored": spec.stored,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "id": stage.id,
        "agent": stage.spec.agent,
        "consumes": [stream.name for stream in stage.inputs],
        "edges": {stream: _edge(edge) for stream, edge in stage.edges.items()},
        "takes": sorted(stage.wanted_types),
        "emits": {payload.event_type: stream.name for payload, stream in stage.routes.items()},
        "config": stage.config.model_dump(mode="json"),
    }


def _edge(edge: Edge) -> dict[str, Any]:
    where = edge.where
    return {
        "takes": None if where is None else {kind.event_type: [each.text for each in where[kind]] for kind in where},
        "lag_max": edge.lag_max,
        "when_full": edge.when_full,
        "shed_first": edge.shed_first.text if edge.shed_first else None,
        "shed_last": edge.shed_last.text if edge.shed_last else None,
    }
