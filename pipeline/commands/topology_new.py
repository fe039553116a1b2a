"""``aiops topology new stage NAME``: an agent, its entry in a topology, and its tests, for a beginning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import click

from pipeline.commands.output import print_json
from pipeline.loading import TESTS_SUFFIX, load_agent, read_tests, read_text
from topology.cases import parse_cases
from topology.defects import did_you_mean, show_names
from topology.errors import ConfigurationError, UsageError
from topology.event import Payload
from topology.graph import Stream, Topology
from topology.parse import parse
from topology.resolve import resolve
from topology.scaffold import Scaffold
from topology.yaml_append import with_item

_NAME = re.compile(r"[a-z][a-z0-9.-]{0,62}")
_TESTS = "# What {topology} must do, in virtual time: `aiops topology test {topology}`.\n\ntests:\n{tests}\n"


@click.group()
def new() -> None:
    """Write the beginning of something new."""


@new.command()
@click.argument("name")
@click.option(
    "--topology", "file", type=click.Path(path_type=Path), default=Path("my_loop.yaml"), show_default=True,
    help="The file that gets the stage; when it is not there, it begins as a copy of the one that ships.",
)  # fmt: skip
@click.option("--consumes", default="signals", show_default=True, help="The stream it reads.")
@click.option("--takes", help="The payload class it reads there; by default the first the stream carries.")
@click.option("--emits", default="findings", show_default=True, help="The stream it writes.")
@click.option("--gives", help="The payload class it writes there; by default the first the stream carries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stage(
    name: str, file: Path, consumes: str, takes: str | None, emits: str, gives: str | None, as_json: bool
) -> None:
    """Write an agent into the working directory, its entry into a topology, and tests beside that; they pass at once."""
    if not _NAME.fullmatch(name):
        msg = f"found {name!r}, expected lower-case letters, digits, dots and dashes, such as restart-loops"
        raise UsageError(msg)
    text = read_text(file if file.exists() else None)
    topology = resolve(parse(text, str(file)), load_agent)
    if any(name in (other.id, *other.spec.aliases) for other in topology.stages):
        msg = f"found a stage {name!r} in {file} already, expected a new name"
        raise UsageError(msg)
    read, written = _stream(topology, consumes), _stream(topology, emits)
    wanted = Scaffold(name, read, _type(read, takes), written, _type(written, gives))
    module, tests = Path(f"{wanted.module}.py"), file.with_suffix(TESTS_SUFFIX)
    if module.exists() or find_spec(wanted.module) is not None:
        msg = f"there is a module {wanted.module!r} already, expected a name nobody has; call the stage otherwise"
        raise UsageError(msg)
    # First everything that may fail, then everything that is written.
    written_texts = {
        module: wanted.agent_source(),
        file: with_item(text, "stages", wanted.stage_entry()),
        tests: _with_tests(tests, file, wanted.tests()),
    }
    _write_all(written_texts)
    if as_json:
        print_json({"stage": name, "agent": str(module), "topology": str(file), "tests": str(tests)})
        return
    click.echo(f"{module}: the agent\n{file}: its entry under `stages`\n{tests}: its tests\n")
    click.echo(f"Now: aiops topology check {file}; aiops topology test {file}")


def _write_all(texts: Mapping[Path, str]) -> None:
    """All of the files, or none."""
    before = {path: path.read_bytes() if path.exists() else None for path in texts}
    try:
        for path, content in texts.items():
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        for path, content_before in before.items():
            if content_before is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content_before:
                path.write_bytes(content_before)
        msg = f"cannot write {error.filename}: {error.strerror}; nothing was written"
        raise ConfigurationError(msg) from error


def _with_tests(tests: Path, topology: Path, items: tuple[str, ...]) -> str:
    if not tests.exists():
        shown = "\n".join(f"  {line}" for item in items for line in item.splitlines())
        return _TESTS.format(topology=topology, tests=shown)
    text, _ = read_tests(topology)
    parse_cases(text, str(tests))  # what is broken is not added to
    for item in items:
        text = with_item(text, "tests", item)
    return text


def _stream(topology: Topology, name: str) -> Stream:
    stored = {stream.name: stream for stream in topology.stored}
    if name not in stored:
        remedy = did_you_mean(name, stored, "choose another")
        msg = f"found no stored stream {name!r} in {topology.name}, expected one of {show_names(stored)}; {remedy}"
        raise UsageError(msg)
    return stored[name]


def _type(stream: Stream, name: str | None) -> type[Payload]:
    carried = {payload.__name__: payload for payload in stream.carries}
    chosen = name or stream.spec.carries[0]
    if chosen not in carried:
        remedy = did_you_mean(chosen, carried, "choose another")
        msg = f"found {chosen!r} for stream {stream.name!r}, expected one of {show_names(carried)}; {remedy}"
        raise UsageError(msg)
    return carried[chosen]
