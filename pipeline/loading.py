"""Reads a topology from a file, and finds the agent classes it names."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from topology.errors import ConfigurationError
from topology.graph import Topology
from topology.parse import ParsedTopology, parse
from topology.resolve import resolve

SHIPPED = "incident_loop.yaml"
TESTS_SUFFIX = ".test.yaml"
"""What the name of a topology's tests ends with, beside it: those of `my_loop.yaml` are in `my_loop.test.yaml`."""


def load_topology(path: Path | None = None) -> Topology:
    """The topology of a file, by default the one that ships, ready to run.

    Raises:
        ConfigurationError: the file cannot be read, or what it declares does not fit together.
    """
    return resolve(read_topology(path), load_agent)


def read_topology(path: Path | None = None) -> ParsedTopology:
    """What a file declares; agents are not looked for.

    Raises:
        ConfigurationError: the file cannot be read, or it is not a topology.
    """
    return parse(read_text(path), str(path) if path else SHIPPED)


def read_text(path: Path | None = None) -> str:
    """The text of a topology's file, by default of the one that ships.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return _read(path, "topology") if path else _shipped(SHIPPED)


def read_tests(topology: Path | None = None, tests: Path | None = None) -> tuple[str, str]:
    """The text of the tests of a topology, by default of those beside it, and the name of their file.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if topology is None and tests is None:
        name = str(Path(SHIPPED).with_suffix(TESTS_SUFFIX))
        return _shipped(name), name
    path = tests or (topology or Path(SHIPPED)).with_suffix(TESTS_SUFFIX)
    return _read(path, "tests"), str(path)


def _shipped(name: str) -> str:
    return (files("topology") / name).read_text(encoding="utf-8")


def _read(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the {what} {path}: {error}"
        raise ConfigurationError(msg) from error


def load_agent(name: str) -> object:
    """What ``module:Class`` names; modules beside the working directory are found too, as ``python -m`` would.

    Raises:
        ImportError, AttributeError: there is no such thing.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: nobody's file may stand in for one of ours
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
