"""Whose the four import names are: two of them have other owners on the package index (DECISIONS.md, decision 1).

Imports nothing of what it looks at, and nothing else that takes time: the command asks before it loads anything.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("pipeline", "agents", "tables", "topology")
DISTRIBUTION = "aiops-core"
HOME = Path(__file__).resolve().parents[1]
"""The folder that holds our packages: a checkout, or an environment's site-packages."""


def foreign_packages() -> dict[str, str]:
    """Our import names that lead to somebody else's code, each with where they lead to; empty when all is well."""
    return {name: place for name in PACKAGES if (place := _place_of(name)) != str(HOME / name)}


def explain_foreign(foreign: dict[str, str]) -> str:
    """What was found, what was expected and what to do, for whoever started the program."""
    found = "; ".join(f"`{name}` at {place}, expected it at {HOME / name}" for name, place in foreign.items())
    return (
        f"found {found}. The program must be in an environment of its own: make a fresh one, or uninstall what owns "
        f"the name (openai-agents owns `agents`, PyTables owns `tables`); nothing of ours was started"
    )


def owners_of(name: str) -> set[str]:
    """The installed distributions that have files under an import name; slow, since it reads all their lists."""
    from importlib.metadata import packages_distributions

    return set(packages_distributions().get(name, ()))


def _place_of(name: str) -> str:
    spec = find_spec(name)
    if spec is None:
        return "nowhere"
    if spec.origin is None:  # a folder without __init__.py
        return ", ".join(spec.submodule_search_locations or ())
    origin = Path(spec.origin).resolve()
    return str(origin.parent if origin.name == "__init__.py" else origin)
