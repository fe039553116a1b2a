"""Plays seeds of a story and tells which of them showed something wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.simulation.deployment import Run, Story
from tests.simulation.remembering import RememberingMesh
from tests.simulation.wire import Wire

_SHOWN = 1_500

T = TypeVar("T", bound=Callable[..., object])
Oracle = Callable[[Run], list[str]]


def plays(seeds: int) -> Callable[[T], T]:
    """How many seeds a test plays when nobody says otherwise."""

    def mark(test: T) -> T:
        test.plays = seeds  # type: ignore[attr-defined]
        return test

    return mark


@dataclass
class Tally:
    """What happened in many runs; a fault that never happened proves nothing."""

    runs: int = 0
    fenced: int = 0
    happened: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run) -> None:
        """Count what happened in a run."""
        self.runs += 1
        self.fenced += run.fenced
        self.happened.update(run.weather.happened)


def play_all(story: Callable[[int], Story], oracle: Oracle, seeds: Sequence[int], tally: Tally) -> None:
    """Plays every seed; fails at the first that shows a problem."""
    for seed in seeds:
        run = Run(seed, story(seed)).play()
        tally.add(run)
        found = oracle(run)
        if found or len(seeds) == 1:
            print(f"seed {seed}: {run.plan}", *run.weather.trace, sep="\n")  # noqa: T201 - pytest shows it when it matters
        problems = "\n".join(problem[:_SHOWN] for problem in found)
        assert not found, f"seed {seed} shows (repeat: pytest tests/simulation --seed={seed}):\n{problems}"


def first_caught(
    story: Callable[[int], Story],
    oracle: Oracle,
    seeds: Iterable[int],
    *,
    mesh_class: type[RememberingMesh] = RememberingMesh,
    wire_class: type[Wire] = Wire,
) -> int | None:
    """The first seed that shows a problem of a mesh that has one."""
    for seed in seeds:
        if oracle(Run(seed, story(seed), mesh_class=mesh_class, wire_class=wire_class).play()):
            return seed
    return None
