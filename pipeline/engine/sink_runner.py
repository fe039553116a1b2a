"""Feeds a sink: reads streams, hands batches over, remembers how far the sink has come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.outputs import dead_letter
from pipeline.engine.record import Commit, Offset, Place, Record
from topology.errors import BadInputError, RetryableError
from topology.event import Event, Payload
from topology.graph import Stream
from topology.payloads.operation import TickPassed

log = logging.getLogger(__name__)

_RECORDS_PER_READ = 500
_WAIT_S = 1.0
_LONGEST_PAUSE_S = 10.0


class Sink(Protocol):
    """Where events leave the mesh."""

    async def open(self) -> None:
        """Get ready; raises ``RetryableError`` when the store is away."""

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        """Keep a batch.  The same batch, or a part of it, may come again: write by event id.

        Raises:
            RetryableError: the store is away; the batch comes again.
        """

    async def close(self) -> None:
        """Give back what the sink holds."""


class SinkRunner:
    """One sink on some streams; of several workers only the owner of its lease feeds it.

    At least once: an event is handed over again when the worker dies between the write and the commit.

    Attributes:
        written: events handed over since the start.
        trouble: why the sink is not taking anything now; empty when it is.
    """

    def __init__(
        self, mesh: Mesh, sink_id: str, sink: Sink, streams: Iterable[Stream], *, name: str, lease_s: float = 5.0
    ) -> None:
        self._mesh = mesh
        self._id = sink_id
        self._sink = sink
        self._places = [(stream.name, partition) for stream in streams for partition in range(stream.partitions)]
        self._name = name
        self._lease_s = lease_s
        self.written = 0
        self.trouble = ""

    async def run(self) -> None:
        """Feed the sink until cancelled; raises ``MeshUnavailableError`` when the mesh is away."""
        try:
            await self._until_it_works(self._sink.open)
            while True:
                lease = await self._mesh.claim(f"~sink-{self._id}", 0, self._name, self._lease_s)
                if lease is None:
                    await asyncio.sleep(self._lease_s / 2)
                    continue
                try:
                    await self._feed(lease)
                except FencedError as fenced:
                    log.warning("%s", fenced)
                finally:
                    await self._mesh.release(lease)
        finally:
            await self._sink.close()

    async def _feed(self, lease: Lease) -> None:
        offsets = (await self._mesh.restore(lease, self._places)).offsets
        while True:
            if await self._mesh.renew([lease], self._lease_s):
                msg = f"sink {self._id} lost its lease to another worker"
                raise FencedError(msg)
            records = await self._mesh.read(offsets, count=_RECORDS_PER_READ, wait_s=_WAIT_S)
            if records:
                await self._hand_over(lease, records, offsets)

    async def _hand_over(self, lease: Lease, records: list[Record], offsets: dict[Place, Offset]) -> None:
        commit = Commit(lease.stage, lease.partition, {})
        events = []
        for record in sorted(records, key=lambda record: (record.offset, record.stream)):
            place = record.stream, record.partition
            commit.offsets[place] = record.offset
            commit.records[place] = commit.records.get(place, 0) + 1
            if record.event_type == TickPassed.event_type:
                continue
            try:
                events.append(record.event)
            except BadInputError as error:
                commit.outputs.append(dead_letter(self._id, record, type(error).__name__, str(error)))
        if events:
            await self._until_it_works(lambda: self._sink.write(events), lease)
        for fenced in await self._mesh.commit([(lease, commit)]):
            if fenced is not None:
                raise fenced
        offsets.update(commit.offsets)
        self.written += len(events)

    async def _until_it_works(self, attempt: Callable[[], Awaitable[None]], lease: Lease | None = None) -> None:
        pause_s = 0.1
        while True:
            try:
                await attempt()
            except RetryableError as error:
                if not self.trouble:
                    log.warning("sink %s waits: %s", self._id, error)
                self.trouble = str(error)
            else:
                self.trouble = ""
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, min(_LONGEST_PAUSE_S, self._lease_s / 2))
            if lease is not None and await self._mesh.renew([lease], self._lease_s):
                msg = f"sink {self._id} lost its lease to another worker while it waited"
                raise FencedError(msg)
