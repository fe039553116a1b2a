"""Who is alive, and which partitions each of them would take: what workers say of themselves when they join.

Everybody computes owners from the same list, so what one worker does not run, or has given up, goes to another without
anybody deciding it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from pipeline.engine.owned import owner_of


@dataclass(frozen=True, slots=True)
class Member:
    """One worker.

    Attributes:
        stages: those it runs; None for all.
        without: partitions it has given up for now, as ``stage/partition``.
    """

    name: str
    stages: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    @property
    def entry(self) -> str:
        """How it stands in the list of live workers; just the name where there is nothing to add."""
        if self.stages is None and not self.without and not self.name.startswith("["):
            return self.name
        stages = None if self.stages is None else sorted(self.stages)
        return orjson.dumps([self.name, stages, sorted(self.without)]).decode()

    @classmethod
    def of(cls, entry: str) -> Member:
        """Read :attr:`entry`."""
        if not entry.startswith("["):
            return cls(entry)
        name, stages, without = orjson.loads(entry)
        return cls(name, None if stages is None else frozenset(stages), frozenset(without))


def owner_among(stage: str, partition: int, members: Iterable[Member]) -> str | None:
    """Whose a partition is; None when nobody runs the stage.  Given up by all, it is tried by all again."""
    runners = [member for member in members if member.stages is None or stage in member.stages]
    willing = [member for member in runners if f"{stage}/{partition}" not in member.without]
    names: Sequence[str] = sorted({member.name for member in willing or runners})
    return owner_of(stage, partition, names) if names else None
