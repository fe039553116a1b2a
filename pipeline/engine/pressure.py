"""What a limit on an input does while too much waits there: writers wait (``block``), or the stage sheds (``shed``).

How much waits is asked of the mesh a few times a second, and only where a limit is declared.  So a limit is exceeded by
what is written between two looks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from pipeline.engine.mesh import Mesh, MeshUnavailableError
from pipeline.engine.owned import Owned
from pipeline.engine.record import Place
from topology.graph import Stage, Topology

LOOK_S = 0.25
"""How often it is looked how much waits."""


class StreamFullError(MeshUnavailableError):
    """A stage that must not be overrun has not read enough of the stream yet; what was to be written has to wait."""


@dataclass(frozen=True, slots=True)
class _Limit:
    stream: str
    stage: str
    lag_max: int
    consumers: tuple[tuple[str, int, Place], ...]


class BackPressure:
    """Which of some streams are full: one of their readers wants writers to wait, and lags more than it allows."""

    def __init__(self, mesh: Mesh, topology: Topology, streams: Collection[str]) -> None:
        self._mesh = mesh
        self._limits = [
            _Limit(stream, stage.id, edge.lag_max, tuple(_consumers(stage, stream)))
            for stage in topology.stages
            for stream, edge in stage.edges.items()
            if edge.lag_max is not None and edge.blocks and stream in streams
        ]
        self._full: dict[str, str] = {}
        self.look_at_s = 0.0 if self._limits else float("inf")

    @property
    def full(self) -> dict[str, str]:
        """Why writers have to wait, by stream, as of the last look."""
        return self._full

    async def look(self, now_s: float) -> None:
        """Look how much waits, if it is time.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        if now_s < self.look_at_s:
            return
        self.look_at_s = now_s + LOOK_S
        lags = iter(await self._mesh.lags([consumer for limit in self._limits for consumer in limit.consumers]))
        full = {}
        for limit in self._limits:
            slowest = max((next(lags) for _ in limit.consumers), key=lambda lag: lag.waiting)
            if slowest.waiting > limit.lag_max:
                full[limit.stream] = (
                    f"stream {limit.stream!r} is full: {slowest.waiting:,} events of partition {slowest.partition} wait for "
                    f"{limit.stage}, which allows {limit.lag_max:,}"
                )
        self._full = full


class Pressure:
    """A worker's view: which of its stages have to wait before they write, and how far those lag that shed.

    Args:
        stages: those the worker runs.
    """

    def __init__(self, mesh: Mesh, topology: Topology, stages: Collection[Stage]) -> None:
        self._mesh = mesh
        self._outputs = {
            stage.id: frozenset(stream.name for each in stage.chain for stream in each.routes.values())
            for stage in stages
        }
        self._back = BackPressure(mesh, topology, frozenset().union(*self._outputs.values()))
        sheds = any(edge.when_full == "shed" for stage in stages for edge in stage.edges.values())
        self._shed_at_s = 0.0 if sheds else float("inf")
        self._shedding: list[str] = []

    @property
    def look_at_s(self) -> float:
        """When it is to be looked again."""
        return min(self._back.look_at_s, self._shed_at_s)

    @property
    def troubles(self) -> list[str]:
        """Why stages wait, and which shed."""
        return [*self._back.full.values(), *self._shedding]

    def holds(self, stage: Stage) -> bool:
        """Whether a stage must not step now, since what it writes would find no room."""
        full = self._back.full
        return bool(full) and not self._outputs[stage.id].isdisjoint(full)

    async def look(self, holdings: Iterable[Owned], now_s: float) -> None:
        """Look how much waits, if it is time.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        await self._back.look(now_s)
        if self._shed_at_s == float("inf"):
            return
        limited = [(owned, owned.task.entrance) for owned in holdings if owned.task.entrance is not None]
        entrances = [(owned.place, entrance, place) for owned, entrance in limited for place in entrance.limited]
        if now_s < self._shed_at_s and all(entrance.is_measured for _, entrance, _ in entrances):
            return
        self._shed_at_s = now_s + LOOK_S
        lags = await self._mesh.lags([(*owned, place) for owned, _, place in entrances])
        self._shedding = []
        for ((stage, partition), entrance, place), lag in zip(entrances, lags, strict=True):
            lag_max = entrance.measured(place, lag.waiting)
            if lag.waiting > lag_max:
                self._shedding.append(
                    f"{stage}/{partition} sheds: {lag.waiting:,} events of {place[0]!r} wait for it, and {lag_max:,} may"
                )


def _consumers(stage: Stage, stream: str) -> Iterator[tuple[str, int, Place]]:
    for partition in range(stage.partitions):
        yield stage.id, partition, (stream, partition)
