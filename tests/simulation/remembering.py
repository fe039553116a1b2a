"""The server of a simulated deployment's mesh, which also knows what an oracle asks for afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import FencedError, Lease
from pipeline.engine.record import BEGINNING, Commit, Offset, Place, Record, Restored


class RememberingMesh(MemoryMesh):
    """A memory mesh that forgets nothing an oracle wants to know.

    Attributes:
        trimmed: records that are gone, by place.
        recorded: per stage and partition, the first answer to each question.
        told: per stage and partition, the token of the last lease that was restored, and the answers it was given.
        problems: what no commit may do.
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        super().__init__(clock_ms, rows_per_part=3)  # so that restores of small states have several parts too
        self.trimmed: dict[Place, list[Record]] = {}
        self.recorded: dict[tuple[str, int], dict[str, bytes]] = {}
        self.told: dict[tuple[str, int], tuple[str, set[str]]] = {}
        self.problems: list[str] = []

    async def trim(self, place: Place, before: Offset) -> int:
        partition = self._partitions[place]
        going = [record for record in partition.records if record.offset < before]
        count = await super().trim(place, before)
        self.trimmed.setdefault(place, []).extend(going)
        return count

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        await super().record_answer(lease, key, answer)
        self.recorded.setdefault((lease.stage, lease.partition), {}).setdefault(key, answer)

    async def restore(self, lease: Lease, inputs: Sequence[Place]) -> Restored:
        restored = await super().restore(lease, inputs)
        self.told[lease.stage, lease.partition] = lease.token, set(restored.answers)
        return restored

    def _commit(self, lease: Lease, commit: Commit) -> FencedError | None:
        before = dict(self._owned[lease.stage, lease.partition].offsets)
        refused = super()._commit(lease, commit)
        for place, offset in commit.offsets.items():
            if refused is None and offset < before.get(place, BEGINNING):
                self.problems.append(f"{lease.stage}/{lease.partition} went back in {place} to {offset}")
        return refused

    def knows_answers(self, owner: str, stage: str, partition: int) -> set[str]:
        """The answers a worker was given with the lease it holds now."""
        owned = self._owned[stage, partition]
        token, answers = self.told.get((stage, partition), ("", set()))
        holds = owned.owner == owner and owned.until_ms > self._clock_ms() and str(owned.token) == token
        return answers if holds else set()

    def history(self, place: Place) -> list[Record]:
        """Every record of a partition, trimmed ones too."""
        return self.trimmed.get(place, []) + self._partitions[place].records
