"""Notices partitions that stopped moving: a stage that stands still while its lag grows is the worst of all faults.

What it says is done by the worker: the partition is restored and its questions are put again; when that did not help
so many times, it is given up, so that another worker takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.engine.inputs import inputs_of
from pipeline.engine.mesh import Mesh
from pipeline.engine.owned import Owned
from pipeline.engine.record import Offset, Place

STALLED_S = 120.0
"""Longer than the slowest answer of the world may take: whoever waits for one stands still too."""
RESTARTS_MAX = 3
GIVEN_UP_S = 300.0
"""How long a worker does not take a partition again that it has given up."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that does not move.

    Attributes:
        give_up: whether it was restarted often enough.
    """

    owned: Owned
    reason: str
    give_up: bool


@dataclass(slots=True)
class _Seen:
    """A partition since it last moved; where it stands is unknown before the first look."""

    at: tuple[Offset, ...] | None
    waiting: int
    since_s: float
    restarts: int = 0
    failure: str = ""
    retry_at_s: float = 0.0


class Watchdog:
    """Looks at what a worker owns, now and then.

    Args:
        stalled_s: a partition whose offset has not moved for so long while its lag has grown is stalled.

    Attributes:
        troubles: partitions that were restarted and have not moved since, and why.
    """

    def __init__(self, mesh: Mesh, *, stalled_s: float = STALLED_S) -> None:
        self._mesh = mesh
        self._stalled_s = stalled_s
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._look_at_s = 0.0
        self.troubles: dict[tuple[str, int], str] = {}

    def failed(self, owned: Owned, error: BaseException, now_s: float) -> None:
        """A partition's step raised what no step should; it rests until it is restarted."""
        seen = self._seen.setdefault(owned.place, _Seen(None, 0, now_s))
        seen.failure = f"{type(error).__name__}: {error}"
        seen.retry_at_s = now_s + min(_FIRST_PAUSE_S * 2**seen.restarts, _LONGEST_PAUSE_S)
        self.troubles[owned.place] = f"{_name(owned.place)} fails: {seen.failure}"

    async def look(self, holdings: Sequence[Owned], now_s: float) -> list[Stall]:
        """What is to be restarted or given up now.

        Raises:
            MeshUnavailableError: the mesh is away.
        """
        stalls = []
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + self._stalled_s / 4
            stalls = await self._standing_still(holdings, now_s)
        for owned in holdings:
            seen = self._seen.get(owned.place)
            if seen is not None and seen.failure and now_s >= seen.retry_at_s:
                stalls.append(self._stall(owned, seen, f"fails: {seen.failure}", now_s))
                seen.failure = ""
        return stalls

    async def _standing_still(self, holdings: Sequence[Owned], now_s: float) -> list[Stall]:
        held = {owned.place for owned in holdings}
        for place in [place for place in self._seen if place not in held]:
            del self._seen[place]
            self.troubles.pop(place, None)
        stalls = []
        for owned, (at, waiting) in zip(holdings, await self._measured(holdings), strict=True):
            seen = self._note(owned.place, at, waiting, now_s)
            still_s = now_s - seen.since_s
            if not seen.failure and still_s >= self._stalled_s and waiting > seen.waiting:
                stalls.append(
                    self._stall(owned, seen, f"has not moved for {still_s:.0f} s, {waiting} events wait", now_s)
                )
        return stalls

    def _note(self, place: tuple[str, int], at: tuple[Offset, ...], waiting: int, now_s: float) -> _Seen:
        seen = self._seen.get(place)
        if seen is not None and seen.at is None:
            seen.at, seen.waiting = at, waiting
        elif seen is None or seen.at != at:
            self.troubles.pop(place, None)
            self._seen[place] = seen = _Seen(at, waiting, now_s)
        return seen

    def _stall(self, owned: Owned, seen: _Seen, problem: str, now_s: float) -> Stall:
        give_up = seen.restarts >= RESTARTS_MAX
        reason = f"{_name(owned.place)} {problem}"
        self.troubles[owned.place] = reason
        seen.restarts += 1
        seen.since_s = now_s
        return Stall(owned, reason, give_up)

    async def _measured(self, holdings: Sequence[Owned]) -> list[tuple[tuple[Offset, ...], int]]:
        """Per partition: how far it has come in each input, and how much waits."""
        consumers: list[tuple[str, int, Place]] = []
        counts = []
        for owned in holdings:
            inputs = inputs_of(owned.stage, owned.lease.partition)
            counts.append(len(inputs))
            consumers += [(*owned.place, place) for place in inputs]
        if not consumers:
            return []
        offsets = await self._mesh.committed(consumers)
        lags = await self._mesh.lags(consumers)
        found, first = [], 0
        for count in counts:
            mine = slice(first, first + count)
            found.append((tuple(offsets[mine]), sum(lag.waiting for lag in lags[mine])))
            first += count
        return found


def _name(place: tuple[str, int]) -> str:
    return f"{place[0]}/{place[1]}"
