"""Whether what is on a stream is what a test expects there, and what comes nearest when it is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from topology.cases import ExpectedSpec
from topology.defects import Path, show_path
from topology.event import Event, Payload
from topology.moments import SECOND_US
from topology.subset import Difference, differences

DETAILS_MAX = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that is not as a test expects it.

    Attributes:
        details: what there is instead: in what the event differs that is most like the expected one, or what is too much.
    """

    line: int
    path: Path
    found: str
    expected: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{show_path(self.path)}: found {self.found}, expected {self.expected}"


def unmet(
    expected: ExpectedSpec, events: Sequence[Event[Payload]], *, start_us: int, line: int, path: Path
) -> Failure | None:
    """How the events of a stream fall short of an expectation; None when they meet it."""
    candidates = [event for event in events if expected.type in (None, type(event.payload).__name__)]
    compared = [(event, tuple(_compare(event, expected))) for event in candidates]
    fitting = [event for event, different in compared if not different]
    if len(fitting) == expected.count or (expected.count is None and fitting):
        return None
    wanted = "at least one" if expected.count is None else "none" if expected.count == 0 else f"{expected.count}"
    which = f" with {dict(expected.payload)!r}" if expected.payload else ""
    found = f"{len(fitting) or 'none'} of {len(candidates)} {expected.type or 'events'} on {expected.stream!r}"
    too_few = expected.count is None or len(fitting) < expected.count
    details = _nearest(compared, start_us) if too_few else [_shown(event, start_us) for event in fitting]
    return Failure(line, path, found, f"{wanted}{which}", tuple(details[:DETAILS_MAX]))


def _compare(event: Event[Payload], expected: ExpectedSpec) -> Iterable[Difference]:
    return differences(event.payload.model_dump(mode="json"), expected.payload)


def _nearest(compared: Iterable[tuple[Event[Payload], tuple[Difference, ...]]], start_us: int) -> list[str]:
    short = [(event, different) for event, different in compared if different]
    if not short:
        return []
    event, different = min(short, key=lambda pair: len(pair[1]))
    return [f"the nearest is {_when(event, start_us)}", *map(str, different)]


def _shown(event: Event[Payload], start_us: int) -> str:
    said = event.payload.model_dump(mode="json", exclude_defaults=True)
    return f"{_when(event, start_us)}: {said!r:.200}"


def _when(event: Event[Payload], start_us: int) -> str:
    return f"{type(event.payload).__name__} at {(event.at_us - start_us) / SECOND_US:g}s"
