"""The checkout as the tests of this folder see it: its packages, its modules, its text files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "agents", "tables", "topology")
PURE_PACKAGES = ("agents", "tables", "topology")

# Made by tools, or a person's own.
_NOT_SOURCE = {".git", ".venv", "build", "dist", "__pycache__", ".hypothesis", ".env"}
_TEXT = {".py", ".toml", ".yaml", ".yml", ".md", ".lua", ".sql", ".html", ".css", ".js", ".lock", ".txt", ".json", ""}


@dataclass(frozen=True)
class Module:
    """One Python file of the checkout."""

    name: str
    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """The modules of these top-level folders, in order of their names."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path))
    return tuple(found)


def text_files() -> Iterator[Path]:
    """Every text file that belongs to the project, dot files too."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        if any(part in _NOT_SOURCE or part.endswith((".egg-info", "_cache")) for part in inside):
            continue
        if path.is_file() and path.suffix in _TEXT:
            yield path


def imported_names(module: Module) -> set[str]:
    """What a module imports, dotted: `from a.b import c` gives `a.b` and `a.b.c`, since `c` may be a module."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names
