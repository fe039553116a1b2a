"""From where a worker reads for which of its tasks; of hundreds of tasks few change between two reads, and only those cost.

Stages that read the same partition are mostly at the same record.  Where they are not, they take turns, so that one that is
far behind, or held up by its questions, does not hold up the others.  For a task that has enough to do nothing more is read:
a backlog lies in the mesh, not in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.engine.owned import Holdings, Owned
from pipeline.engine.record import Offset, Place
from pipeline.engine.replaying import PLACE as LETTERS
from pipeline.engine.task import PartitionTask

ENOUGH = 500
"""Records that wait in a task which could process them now; as many as are read at once."""
_NOBODY: tuple[None, tuple[Place, ...]] = None, ()


class ReadingPlan:
    """What the next read is for.

    Args:
        holdings: the worker's own, which it changes; their ``touched`` is set when they may have changed, and cleared here.

    Attributes:
        places: from where the partitions are read.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._for: dict[tuple[str, int], tuple[PartitionTask, tuple[Place, ...]]] = {}
        self._wanted: dict[Place, dict[tuple[str, int], Offset]] = {}
        self._unlike: dict[Place, None] = {}
        self._have_enough: set[tuple[str, int]] = set()
        self._turn = 0
        self.places: dict[Place, Offset] = {}

    @property
    def alike(self) -> bool:
        """Whether all who read the same partition read it from the same record."""
        return not self._unlike

    @property
    def passes_over(self) -> bool:
        """Whether nothing is read for somebody until that has less to do."""
        return bool(self._have_enough)

    def leaves_somebody_out(self) -> bool:
        """Whether a task could take records that the plan does not know of."""
        return any(
            owned.touched and owned.sound and owned.task.room and self._for.get(held, _NOBODY)[0] is not owned.task
            for held, owned in self._holdings.items()
        )

    def make(self) -> None:
        """Plan for those who hold a partition now, and have room."""
        changed = dict(self._unlike)  # not a set: a simulation must come to the same order again
        for held in [held for held in self._for if held not in self._holdings]:
            changed.update(dict.fromkeys(self._forget(held)))
        for held, owned in self._holdings.items():
            if owned.touched:
                changed.update(dict.fromkeys((*self._forget(held), *self._add(held, owned))))
                owned.touched = not owned.quiet
        self._turn += 1
        for place in changed:
            self._choose(place)

    def readers_of(self, places: Iterable[Place]) -> Iterator[Owned]:
        """Those for whom these partitions were read, as far as they are still held; each once."""
        wanted = self._wanted
        for held in dict.fromkeys(held for place in places for held in wanted.get(place, ())):
            owned = self._holdings.get(held)
            if owned is not None:
                yield owned

    def _add(self, held: tuple[str, int], owned: Owned) -> Iterable[Place]:
        if not (owned.sound and owned.task.room):
            return ()
        positions = owned.task.positions
        if owned.task.waiting >= ENOUGH and owned.task.ready:
            positions = {place: offset for place, offset in positions.items() if place == LETTERS}
            self._have_enough.add(held)
        self._for[held] = owned.task, tuple(positions)
        for place, offset in positions.items():
            self._wanted.setdefault(place, {})[held] = offset
        return positions

    def _forget(self, held: tuple[str, int]) -> Iterable[Place]:
        _, left = self._for.pop(held, _NOBODY)
        self._have_enough.discard(held)
        for place in left:
            del self._wanted[place][held]
        return left

    def _choose(self, place: Place) -> None:
        offsets = set(self._wanted.get(place, {}).values())
        self._unlike.pop(place, None)
        if not offsets:
            self._wanted.pop(place, None)
            self.places.pop(place, None)
            return
        self.places[place] = sorted(offsets)[self._turn % len(offsets)]
        if len(offsets) > 1:
            self._unlike[place] = None
