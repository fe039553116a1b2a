"""How tests call the command: in this process, or as a person does, in one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from pipeline.main import aiops
from pipeline.settings import settings

PROGRAM = Path(sys.executable).with_name("aiops")


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    """Settings are read once per process; each test sets its own environment."""
    settings.cache_clear()
    yield
    settings.cache_clear()


def call(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """Call a verb in this process."""
    return CliRunner().invoke(aiops, [str(each) for each in arguments], input=stdin, prog_name="aiops")


def call_json(*arguments: str | Path, stdin: str | bytes | None = None) -> Any:
    """Call a verb that succeeds; the one JSON document it printed."""
    result = call(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output or repr(result.exception)
    return orjson.loads(result.stdout)


def start(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Call a verb as a person does."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def started(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A verb that runs until it is stopped, as a terminal starts it; killed at the end when it still runs.

    Who starts the tests in the background may have SIGINT ignored (`pytest &` in a script), and children inherit that.
    They do not inherit a handler: while there is one, a child begins with what SIGINT means by default.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [PROGRAM, *arguments],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()
