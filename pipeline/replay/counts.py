"""What came of a replay, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.engine.outputs import ANSWERS, DEAD_LETTERS, LATE
from pipeline.engine.record import Commit
from topology.graph import Stage
from topology.payloads.operation import EventDeadLettered


@dataclass(slots=True)
class StageCounts:
    """What one stage did, with those that run in its task.

    Attributes:
        read: events, ticks among them.
        put_out: events on declared streams.
        late: entries that came too late for their windows.
        dead_letters: events it gave up.
    """

    read: int = 0
    ticks: int = 0
    put_out: int = 0
    late: int = 0
    dead_letters: int = 0

    @property
    def events(self) -> int:
        """What it read, ticks aside."""
        return self.read - self.ticks


@dataclass(slots=True)
class ReplayCounts:
    """What a replay did.

    Attributes:
        fed: how many events from outside were put on their streams, ticks among them, by stream.
        types: the same by event type.
        again: conclusions that are in the recording, and came about again, to the byte.
        different: conclusions that came about with the same id, and say something else.
        missing: conclusions that are in the recording, and did not come about.
        new: conclusions on recorded streams that are not in the recording.
    """

    stages: dict[str, StageCounts] = field(default_factory=dict)
    fed: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    again: int = 0
    different: int = 0
    missing: int = 0
    new: int = 0

    def committed(self, stage: Stage, commit: Commit) -> None:
        """One more commit was made."""
        counts = self.stages[stage.id]
        counts.read += sum(commit.records.values())
        for output in commit.outputs:
            if output.stream == DEAD_LETTERS.name:
                counts.dead_letters += output.event_type == EventDeadLettered.event_type
            elif output.stream == LATE.name:
                counts.late += 1
            elif output.stream != ANSWERS.name:
                counts.put_out += 1

    @property
    def as_recorded(self) -> bool:
        """Whether everything the recording has of conclusions came about again, and nothing else."""
        return not (self.different or self.missing or self.new)

    def as_json(self) -> dict[str, Any]:
        """The numbers as JSON data."""
        return {
            "fed": dict(self.fed),
            "stages": {name: {**asdict(counts), "read": counts.events} for name, counts in self.stages.items()},
            "conclusions": {
                "again": self.again,
                "different": self.different,
                "missing": self.missing,
                "new": self.new,
            },
        }
