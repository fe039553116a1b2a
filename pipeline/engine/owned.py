"""A stage's partition while a worker owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.engine.mesh import Lease
from pipeline.engine.record import Record
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import Memory
from topology.graph import Stage


@dataclass(slots=True)
class Owned:
    """What a worker holds for one stage and partition.

    Attributes:
        asking: questions whose answers are waited for, to be recorded and handed to the task.
        sound: False when the task may differ from what is committed (half an event, a commit whose outcome is unknown):
            then it must never be committed again, only restored.
        touched: whether anything may have changed since it was last seen to be quiet: most of hundreds have not.
    """

    stage: Stage
    lease: Lease
    memory: Memory
    task: PartitionTask
    asking: set[asyncio.Task[None]] = field(default_factory=set)
    committed_at_s: float = 0.0
    sound: bool = True
    touched: bool = True

    @property
    def place(self) -> tuple[str, int]:
        """The stage and the partition."""
        return self.lease.stage, self.lease.partition

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be done before something is offered."""
        task = self.task
        return self.sound and not (task.waiting or task.moved or task.ready)

    def offer(self, records: Sequence[Record]) -> None:
        """Let the task take in what was read."""
        self.touched = True
        self.task.offer(records)


Holdings = dict[tuple[str, int], Owned]
"""What a worker holds and can step, by stage and partition."""
