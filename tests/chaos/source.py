"""The source: publishes without end, posts some events again, and knows what was acknowledged when."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from uuid import UUID

from pipeline.engine.mesh import LostWritesError, Mesh, MeshUnavailableError
from pipeline.engine.publisher import Publisher
from pipeline.engine.record import partition_of
from tests.chaos.loop_under_test import PARTITIONS, signals, topology
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import MetricSampled

_EVENTS_PER_S = 300
_AGAIN = 0.05
"""The share of events that are posted a second time."""
_A_DAY_US = 24 * 3600 * 1_000_000


class Source:
    """Publishes signals until stopped; what the mesh does not take is offered again until it does.

    Args:
        connect: a connection to the mesh; used again when somebody decided to go on with a server that lost writes.
        on_lost_writes: told when the server forgot what it had acknowledged to this source.

    Attributes:
        acked: per event, when it was acknowledged (monotonic seconds).
        numbers: per event, its place in the order of publishing.
        posted_again: how many events were posted though they had been acknowledged.
        refused: how often the mesh did not take a batch.
        refusal: why it did not, the last time.
    """

    def __init__(
        self,
        connect: Callable[[], Mesh],
        chance: random.Random,
        name: str,
        *,
        on_lost_writes: Callable[[LostWritesError], None],
    ) -> None:
        self._connect = connect
        self._mesh = connect()
        self._on_lost_writes = on_lost_writes
        self._stream = topology().streams["signals"]
        self._chance = chance
        self._name = name
        self._signals = signals(chance, name)
        self._recent: deque[Event[Payload]] = deque(maxlen=2_000)
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._latest_us = 0
        self.acked: dict[UUID, float] = {}
        self.numbers: dict[UUID, int] = {}
        self.posted_again = 0
        self.refused = 0
        self.refusal = ""

    def start(self) -> None:
        """Begin to publish."""
        self._running = asyncio.create_task(self._run())

    def raise_if_failed(self) -> None:
        """Raise what it could not survive."""
        if self._running is not None and self._running.done():
            self._running.result()

    async def stop(self) -> None:
        """End at once."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._mesh.close()

    async def finish(self) -> None:
        """Publish no more, but close every window with one last sample per partition."""
        self._stopping = True
        if self._running is not None:
            await self._running
        await self._offer([self._closing(partition) for partition in range(PARTITIONS)])

    async def _run(self) -> None:
        while not self._stopping:
            batch = [next(self._signals) for _ in range(self._chance.randint(1, 60))]
            for event in batch:
                self.numbers[event.id] = len(self.numbers)
                self._latest_us = max(self._latest_us, event.at_us)
            again = self._chance.sample(self._recent, min(len(self._recent), round(len(batch) * _AGAIN)))
            await self._offer([*batch, *again])
            self.posted_again += len(again)
            self._recent.extend(batch)
            await asyncio.sleep(len(batch) / _EVENTS_PER_S)

    async def _offer(self, batch: list[Event[Payload]]) -> None:
        while True:
            try:
                await Publisher(self._mesh, self._stream)(batch)
            except MeshUnavailableError as error:
                self.refused += 1
                self.refusal = str(error)
                await asyncio.sleep(0.1)
            except LostWritesError as error:
                self._on_lost_writes(error)
                await self._mesh.close()
                self._mesh = self._connect()
            else:
                break
        now_s = time.monotonic()
        for event in batch:
            self.acked[event.id] = now_s

    def _closing(self, partition: int) -> Event[Payload]:
        service = next(name for n in range(1_000) if partition_of(name := f"end{n}", PARTITIONS) == partition)
        event: Event[Payload] = Event(
            id=derived_id(self._name, "end", partition),
            timestamp=from_us(self._latest_us + _A_DAY_US),
            source="chaos",
            payload=MetricSampled(service=service, metric="m", value=1.0),
        )
        self.numbers[event.id] = len(self.numbers)
        return event
