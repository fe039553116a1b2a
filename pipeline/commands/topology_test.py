"""``aiops topology test``: does a topology do what the tests beside it expect?"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import click

from pipeline.commands.output import print_json
from pipeline.loading import load_topology, read_tests
from pipeline.main import FAILED
from pipeline.rehearsal import Rehearsal, Rehearsed
from topology.defects import show_path
from topology.expectation import Failure


@click.command("test")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--tests", type=click.Path(path_type=Path), help="Another file of tests than FILE's own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def topology_test(file: Path | None, tests: Path | None, as_json: bool) -> None:
    """Play the tests beside FILE (those of my_loop.yaml are in my_loop.test.yaml) in virtual time; exit 1 when one fails."""
    text, name = read_tests(file, tests)
    rehearsal = Rehearsal(load_topology(file), text, name)
    played = []
    for number in range(len(rehearsal)):
        began_s = time.monotonic()
        played.append(asyncio.run(rehearsal.play(number)))
        if not as_json:
            _tell(played[-1], name, time.monotonic() - began_s)
    failed = sum(not each.passed for each in played)
    if as_json:
        print_json(
            {"tests": name, "passed": len(played) - failed, "failed": failed, "results": list(map(_data, played))}
        )
    else:
        click.echo(f"{name}: {len(played) - failed} passed, {failed} failed")
    if failed:
        sys.exit(FAILED)


def _tell(played: Rehearsed, file: str, took_s: float) -> None:
    click.echo(f"{'ok    ' if played.passed else 'FAILED'}  {played.name} ({took_s:.1f} s)")
    for failure in played.failures:
        click.echo(f"    {file}:{failure.line}: {failure}")
        for line in failure.details:
            click.echo(f"        {line}")


def _data(played: Rehearsed) -> dict[str, Any]:
    return {
        "name": played.name,
        "line": played.line,
        "passed": played.passed,
        "failures": [_failure(each) for each in played.failures],
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "line": failure.line,
        "path": show_path(failure.path),
        "found": failure.found,
        "expected": failure.expected,
        "details": list(failure.details),
    }
