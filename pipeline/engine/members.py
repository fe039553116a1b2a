"""Who is alive, and which partitions each of them would take: what workers say of themselves when they join.

Everybody computes owners from the same list (:mod:`pipeline.engine.assignment`), so what one worker does not run, or has
given up, goes to another without anybody deciding it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson


@dataclass(frozen=True, slots=True)
class Member:
    """One worker.

    Attributes:
        stages: those it runs, each with its number of partitions.
        without: stages and partitions it has given up for now.
    """

    name: str
    stages: Mapping[str, int] = field(default_factory=dict)
    without: frozenset[tuple[str, int]] = frozenset()

    @property
    def takes(self) -> str:
        """What it takes, as it stands in the list of live workers."""
        return orjson.dumps([self.stages, sorted(self.without)], option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def of(cls, name: str, takes: str) -> Member:
        """Read :attr:`takes`; who says nothing takes nothing."""
        stages, without = orjson.loads(takes or "[{}, []]")
        return cls(name, stages, frozenset((stage, partition) for stage, partition in without))


def members_of(alive: Mapping[str, str]) -> Iterable[Member]:
    """The list of live workers, read."""
    return [Member.of(name, takes) for name, takes in alive.items()]
