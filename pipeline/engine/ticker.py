"""Puts the passing of time on the streams, so that timers fire when nothing else happens, and again in a replay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from pipeline.engine.mesh import Lease, Mesh
from pipeline.engine.record import Output, output_for
from topology.event import Event, Payload
from topology.graph import Stream, Topology
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads.operation import TickPassed

_STAGE = "~ticker"


def ticks(streams: Iterable[Stream], since_us: int, until_us: int) -> list[Output]:
    """The ticks of all partitions that fall into (since, until], in order of time."""
    due: list[tuple[int, Output]] = []
    for stream in streams:
        every_us = stream.ticks_us
        if every_us is None:
            continue
        for at_us in range((since_us // every_us + 1) * every_us, until_us + 1, every_us):
            due += [(at_us, _tick(stream, partition, at_us)) for partition in range(stream.partitions)]
    return [output for _, output in sorted(due, key=lambda tick: tick[0])]


def _tick(stream: Stream, partition: int, at_us: int) -> Output:
    event: Event[Payload] = Event(
        id=derived_id("tick", stream.name, partition, at_us),
        timestamp=from_us(at_us),
        source="ticker",
        payload=TickPassed(),
    )
    return output_for(stream, event, key="", partition=partition)


class Ticker:
    """Ticks for one deployment; of several only the owner of a lease does it, so nothing ticks twice.

    After a pause longer than the lease (a stop, a stall, a clock set forward) it goes on with the present: time that
    passed unheard needs no ticks of its own, but for the last one of each stream.

    Args:
        clock_us: microseconds since the epoch; event time follows from it.
        after: waited for before each tick: what is still to be published of the past would come late after it.
    """

    def __init__(
        self,
        mesh: Mesh,
        topology: Topology,
        *,
        name: str,
        lease_s: float = 5.0,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._mesh = mesh
        self._streams = [stream for stream in topology.streams.values() if stream.ticks_us]
        self._name = name
        self._lease_s = lease_s
        self._clock_us = clock_us
        self._after = after

    async def run(self) -> None:
        """Tick until cancelled."""
        if not self._streams:
            await asyncio.Event().wait()
        every_us = min(stream.ticks_us or 0 for stream in self._streams)
        lease: Lease | None = None
        last_us = self._clock_us()
        try:
            while True:
                await asyncio.sleep((every_us - self._clock_us() % every_us) / 1e6)
                if self._after is not None:
                    began_us = self._clock_us()
                    await self._after()
                    last_us += self._clock_us() - began_us
                lease = await self._hold(lease)
                now_us = self._clock_us()
                if lease is not None:
                    await self._mesh.publish(self._due(last_us, now_us))
                last_us = now_us
        finally:
            if lease is not None:
                await self._mesh.release(lease)

    def _due(self, last_us: int, now_us: int) -> list[Output]:
        pause_us = int(self._lease_s * 1e6)
        if now_us - last_us <= pause_us:
            return ticks(self._streams, last_us, now_us)
        due: list[Output] = []
        for stream in self._streams:
            due += ticks([stream], max(last_us, now_us - max(pause_us, stream.ticks_us or 0)), now_us)
        return due

    async def _hold(self, lease: Lease | None) -> Lease | None:
        if lease is not None and not await self._mesh.renew([lease], self._lease_s):
            return lease
        return await self._mesh.claim(_STAGE, 0, self._name, self._lease_s)
