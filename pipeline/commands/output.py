"""How verbs put things on stdout: JSON for programs, short lines for people."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click
import orjson

_NARROW_MIN = 60


def print_json(data: Any) -> None:
    """One JSON document on one line."""
    print_json_line(orjson.dumps(data, option=orjson.OPT_UTC_Z))


def print_json_line(encoded: bytes) -> None:
    """A line that is JSON already; it is out when this returns, since a program may be waiting at the other end."""
    click.echo(encoded.decode())


def fit(line: str) -> str:
    """The line as it fits the terminal; whole where nobody looks."""
    if not sys.stdout.isatty():
        return line
    width = max(_NARROW_MIN, shutil.get_terminal_size().columns)
    return shorten(line, width)


def shorten(text: str, chars_max: int) -> str:
    """The text on one line, cut at the end when it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= chars_max else f"{line[: chars_max - 1]}…"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 error``, ``2 errors``; ``many`` where an s does not make the plural."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
