"""How a deployment stands, as ``aiops top`` shows it: per stage and partition how much comes, goes and waits, and who has it.

Everything is read from the mesh, so any machine that reaches the server may look.  Rates are differences between two
looks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.engine.dead_letters import DeadLetters
from pipeline.engine.inputs import inputs_of
from pipeline.engine.oversight import Position, Report, Tally
from pipeline.engine.record import Place
from pipeline.engine.redis_mesh import RedisMesh
from topology.graph import Topology

State = Literal["runs", "restoring", "stalled", "halted", "unowned"]

Evicted = Mapping[str, Mapping[str, int]]

SINK = "~sink-"
"""What the name begins with under which a sink commits; its dead letters name it without."""


@dataclass(frozen=True, slots=True)
class PartitionLine:
    """One partition of a stage, or a sink.

    Attributes:
        why: what the state means here; empty when it runs, or when nobody has it.
        read: records passed since the beginning.
        in_per_s: records passed; None at the first look.
        out_per_s: outputs committed; None at the first look.
        dead_letters: open ones.
        lags: how much waits, by stream and partition.
        evicted: keys its tables dropped to stay within their bounds since the beginning, by table and bound.
    """

    stage: str
    partition: int
    owner: str | None
    state: State
    why: str
    read: int
    outputs: int
    late: int
    dead_letters: int
    lags: Sequence[tuple[Place, int]]
    in_per_s: float | None = None
    out_per_s: float | None = None
    evicted: Evicted = field(default_factory=dict)

    @property
    def lag(self) -> int:
        """How much waits."""
        return sum(waiting for _, waiting in self.lags)


@dataclass(frozen=True, slots=True)
class StageLine:
    """A stage, or a sink: the sum of its partitions.

    Attributes:
        following: the stages that run in the same task, whose outputs and dead letters are counted here.
    """

    stage: str
    partitions: Sequence[PartitionLine]
    following: Sequence[str] = ()

    @property
    def lag(self) -> int:
        """How much waits, over all inputs and partitions."""
        return sum(line.lag for line in self.partitions)

    @property
    def late(self) -> int:
        """Entries that came too late for their windows, since the beginning."""
        return sum(line.late for line in self.partitions)

    @property
    def evicted(self) -> Evicted:
        """Keys that tables dropped to stay within their bounds since the beginning, by table and bound."""
        sums: dict[str, dict[str, int]] = {}
        for line in self.partitions:
            for table, bounds in line.evicted.items():
                of_table = sums.setdefault(table, {})
                for bound, count in bounds.items():
                    of_table[bound] = of_table.get(bound, 0) + count
        return sums

    @property
    def dead_letters(self) -> int:
        """Open dead letters."""
        return sum(line.dead_letters for line in self.partitions)

    @property
    def in_per_s(self) -> float | None:
        """Records passed; None at the first look."""
        return _sum(line.in_per_s for line in self.partitions)

    @property
    def out_per_s(self) -> float | None:
        """Outputs committed; None at the first look."""
        return _sum(line.out_per_s for line in self.partitions)

    @property
    def states(self) -> Mapping[State, int]:
        """How many partitions are in which state."""
        return Counter(line.state for line in self.partitions)

    @property
    def owners(self) -> Mapping[str, int]:
        """How many partitions each worker has."""
        return Counter(sorted(line.owner for line in self.partitions if line.owner is not None))


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker that lives, or holds something."""

    worker: str
    partitions: int
    troubles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands at one moment.

    Attributes:
        over_s: since the look before, which rates are about; None at the first.
    """

    over_s: float | None
    stages: Sequence[StageLine]
    workers: Sequence[WorkerLine]


class Overseer:
    """Looks at a deployment again and again.

    Args:
        topology: the deployment's; what reads its streams and is not in it (sinks) is shown too.
    """

    def __init__(self, mesh: RedisMesh, topology: Topology) -> None:
        self._mesh = mesh
        self._consumers: dict[tuple[str, int], list[Place]] = {
            (stage.id, partition): inputs_of(stage, partition)
            for stage in topology.tasks
            for partition in range(stage.partitions)
        }
        self._places = [
            (stream.name, partition) for stream in topology.stored for partition in range(stream.partitions)
        ]
        self._stages = {stage.id for stage in topology.tasks}
        self._task_of = {each.id: head.id for head in topology.tasks for each in head.chain}
        self._with = {head.id: tuple(each.id for each in head.chain[1:]) for head in topology.tasks if head.next}
        self._letters = DeadLetters()
        self._before: dict[tuple[str, int], PartitionLine] = {}
        self._looked_s: float | None = None

    async def look(self) -> Overview:
        """How it stands now; raises ``MeshUnavailableError`` when the mesh is away."""
        oversight = self._mesh.oversight
        positions = {(each.consumer, each.place): each for each in await oversight.positions(self._places)}
        now_s = time.monotonic()
        # A stage nobody has ever claimed is no consumer group yet; all that is there waits for it.
        unseen = [
            (*owned, place)
            for owned, places in self._consumers.items()
            for place in places
            if (owned[0], place) not in positions
        ]
        for lag in await self._mesh.lags(unseen) if unseen else ():
            place = lag.stream, lag.partition
            positions[lag.stage, place] = Position(lag.stage, place, 0, lag.waiting)
        consumers = {**self._consumers, **self._others(positions)}
        tallies = await oversight.tallies(list(consumers), self._with)
        reports = await oversight.reports()
        await self._letters.follow(self._mesh)
        letters = Counter(self._owner_of_letter(*letter.owner) for letter in self._letters.letters)
        lines = [
            _line(
                tally,
                [positions[tally.stage, place] for place in places],
                letters[tally.stage, tally.partition],
                reports,
            )
            for tally, places in zip(tallies, consumers.values(), strict=True)
        ]
        over_s = None if self._looked_s is None else max(1e-9, now_s - self._looked_s)
        lines = [self._with_rates(line, over_s) for line in lines]
        self._before = {(line.stage, line.partition): line for line in lines}
        self._looked_s = now_s
        return Overview(over_s, _by_stage(lines, self._with), _workers(lines, reports))

    def _others(self, positions: Mapping[tuple[str, Place], Position]) -> dict[tuple[str, int], list[Place]]:
        """Who reads these streams without being a stage of the topology; it owns all its partitions as one."""
        others: dict[tuple[str, int], list[Place]] = {}
        for consumer, place in positions:
            if consumer not in self._stages:
                others.setdefault((consumer, 0), []).append(place)
        return dict(sorted(others.items()))

    def _owner_of_letter(self, stage: str, partition: int) -> tuple[str, int]:
        head = self._task_of.get(stage)
        return (SINK + stage, 0) if head is None else (head, partition)

    def _with_rates(self, line: PartitionLine, over_s: float | None) -> PartitionLine:
        if over_s is None:
            return line
        before = self._before.get((line.stage, line.partition), line)  # seen for the first time: nothing to compare
        return replace(
            line,
            in_per_s=max(0, line.read - before.read) / over_s,
            out_per_s=max(0, line.outputs - before.outputs) / over_s,
        )


def _line(tally: Tally, positions: Sequence[Position], letters: int, reports: Mapping[str, Report]) -> PartitionLine:
    state, why = _state(tally, reports)
    return PartitionLine(
        tally.stage,
        tally.partition,
        tally.owner,
        state,
        why,
        read=sum(position.read for position in positions),
        outputs=tally.outputs,
        late=tally.late,
        evicted=tally.evicted,
        dead_letters=letters,
        lags=[(position.place, position.waiting) for position in positions],
    )


def _state(tally: Tally, reports: Mapping[str, Report]) -> tuple[State, str]:
    name = f"{tally.stage}/{tally.partition}"
    if tally.owner is None:
        halted = next((report.halted[name] for report in reports.values() if name in report.halted), None)
        return ("unowned", "") if halted is None else ("halted", halted)
    report = reports.get(tally.owner, Report())
    if name in report.restoring:
        return "restoring", report.restoring[name]
    return ("stalled", report.stalled[name]) if name in report.stalled else ("runs", "")


def _by_stage(lines: Sequence[PartitionLine], following: Mapping[str, Sequence[str]]) -> list[StageLine]:
    stages: dict[str, list[PartitionLine]] = {}
    for line in lines:
        stages.setdefault(line.stage, []).append(line)
    return [StageLine(stage, partitions, following.get(stage, ())) for stage, partitions in stages.items()]


def _workers(lines: Sequence[PartitionLine], reports: Mapping[str, Report]) -> list[WorkerLine]:
    held = Counter(line.owner for line in lines if line.owner is not None)
    return [
        WorkerLine(worker, held[worker], reports.get(worker, Report()).troubles) for worker in sorted({*held, *reports})
    ]


def _sum(rates: Iterable[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
