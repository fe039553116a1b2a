"""What is wrong with a declared topology, where, and the way out.

Parsing, checking and resolving all speak of defects, so that one command can show everything at once, sorted by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from topology.errors import TopologyError

Path = tuple[str | int, ...]
"""Where in the document: the keys and positions from its root."""

DefectSeverity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong, or looks wrong, in a declared topology.

    Attributes:
        origin: the file, or another name of the text.
        line: counted from 1; 0 when the topology was not read from text.
        severity: an ``error`` cannot run; a ``warning`` runs but hardly as meant; an ``info`` is worth knowing.
    """

    origin: str
    line: int
    path: Path
    found: str
    expected: str
    remedy: str
    severity: DefectSeverity = "error"

    def __str__(self) -> str:
        place = f"{self.origin}:{self.line}" if self.line else self.origin
        where = f" {show_path(self.path)}:" if self.path else ""
        return f"{place}: {self.severity}:{where} found {self.found}, expected {self.expected}; {self.remedy}"


class BrokenTopologyError(TopologyError):
    """A declared topology cannot run; the message has one line for each error.

    Attributes:
        defects: all that was found, warnings included, sorted by line.
    """

    def __init__(self, defects: Iterable[Defect]) -> None:
        self.defects = in_order(defects)
        super().__init__("\n".join(str(defect) for defect in self.defects if defect.severity == "error"))


@dataclass(frozen=True, slots=True)
class Places:
    """Which line each path of a document came from."""

    origin: str
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it that was written; 0 when nothing was."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return 0

    def defect(
        self, path: Path, *, found: str, expected: str, remedy: str, severity: DefectSeverity = "error"
    ) -> Defect:
        """A defect at a path of this document."""
        return Defect(self.origin, self.line_of(path), path, found, expected, remedy, severity)


def in_order(defects: Iterable[Defect]) -> tuple[Defect, ...]:
    """Sorted by line; defects of one line in an order that does not depend on who found them first."""
    return tuple(sorted(defects, key=lambda d: (d.line, show_path(d.path), d.severity, d.found, d.expected)))


def raise_if_broken(defects: Iterable[Defect]) -> None:
    """Refuse a topology that has errors; warnings pass.

    Raises:
        BrokenTopologyError: at least one defect is an error.
    """
    found = tuple(defects)
    if any(defect.severity == "error" for defect in found):
        raise BrokenTopologyError(found)


def show_path(path: Path) -> str:
    """A path as people write it: ``stages[2].config.failures_max``."""
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


def show_names(names: Iterable[str]) -> str:
    """Names in alphabetical order, or ``none``."""
    return ", ".join(sorted(names)) or "none"


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """A remedy that proposes the most similar known name, or else the other remedy."""
    similar = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {similar[0]}?" if similar else otherwise
