"""Whether data is what somebody expects who names only some of it, and what is different where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from topology.defects import Path, show_path

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where data is not as expected."""

    path: Path
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{show_path(self.path)}: found {self.found}, expected {self.expected}"


def differences(found: Any, expected: Any, path: Path = ()) -> Iterator[Difference]:
    """Where JSON data lacks what is expected, or has something else; nothing when it has all of it.

    Of a mapping only the keys that are expected are looked at, at every depth; a list must have as many items.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key, value in expected.items():
            yield from differences(found.get(key, _NOTHING), value, (*path, str(key)))
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple) and len(found) == len(expected):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, (*path, index))
    elif not _equal(found, expected):
        yield Difference(path, _shown(found), _shown(expected))


def _equal(found: Any, expected: Any) -> bool:
    # Python takes True for 1, JSON does not.
    return isinstance(found, bool) is isinstance(expected, bool) and bool(found == expected)


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else "null" if value is None else f"{value!r:.200}"
