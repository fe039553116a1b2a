"""Feeds a sink: reads streams, hands batches over, remembers how far the sink has come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from pipeline.engine.mesh import FencedError, Lease, Mesh
from pipeline.engine.outputs import dead_letter
from pipeline.engine.record import Commit, Offset, Place, Record
from pipeline.engine.verdict import Verdict
from topology.errors import BadInputError, RetryableError
from topology.event import Event, Payload
from topology.graph import Stream
from topology.payloads.operation import TickPassed

log = logging.getLogger(__name__)

_RECORDS_PER_READ = 500
_WAIT_S = 1.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


class Sink(Protocol):
    """Where events leave the mesh."""

    async def open(self) -> None:
        """Get ready; raises ``RetryableError`` when the store is away."""

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        """Keep a batch.  The same batch, or a part of it, may come again: write by event id.

        Raises:
            RetryableError: the store is away; the batch comes again.
            Exception: an event in it can never be kept; it is found by halving the batch, and becomes a dead letter.
        """

    async def close(self) -> None:
        """Give back what the sink holds."""


class SinkRunner:
    """One sink on some streams; of several workers only the owner of its lease feeds it.

    At least once: an event is handed over again when the worker dies between the write and the commit.  The lease is
    kept while the sink writes, however long that takes.

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
            await self._keep(lease)
            records = await self._mesh.read(offsets, count=_RECORDS_PER_READ, wait_s=min(_WAIT_S, self._lease_s / 2))
            if records:
                await self._hand_over(lease, records, offsets)

    async def _hand_over(self, lease: Lease, records: list[Record], offsets: dict[Place, Offset]) -> None:
        commit = Commit(lease.stage, lease.partition, {})
        batch: list[Record] = []
        for record in sorted(records, key=lambda record: (record.offset, record.stream)):
            place = record.stream, record.partition
            commit.offsets[place] = record.offset
            commit.records[place] = commit.records.get(place, 0) + 1
            if record.event_type == TickPassed.event_type:
                continue
            try:
                record.event  # noqa: B018 - decodes, once
            except BadInputError as error:
                commit.outputs.append(dead_letter(self._id, record, Verdict(type(error).__name__, str(error))))
            else:
                batch.append(record)
        refused = await self._while_keeping(lease, self._write(batch))
        commit.outputs += [dead_letter(self._id, record, verdict) for record, verdict in refused]
        for fenced in await self._mesh.commit([(lease, commit)]):
            if fenced is not None:
                raise fenced
        offsets.update(commit.offsets)
        self.written += len(batch) - len(refused)

    async def _write(self, batch: Sequence[Record]) -> list[tuple[Record, Verdict]]:
        """Answers what the sink can never take, and why."""
        if not batch:
            return []
        events = [record.event for record in batch]
        try:
            await self._until_it_works(lambda: self._sink.write(events))
        except Exception as error:  # noqa: BLE001 - the sink's boundary: one event may not hold up all others
            if len(batch) == 1:
                log.warning("sink %s refuses %s: %s", self._id, batch[0].event_type, error)
                return [(batch[0], Verdict(type(error).__name__, str(error)))]
            half = len(batch) // 2
            return await self._write(batch[:half]) + await self._write(batch[half:])
        return []

    async def _until_it_works(self, attempt: Callable[[], Awaitable[None]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await attempt()
            except RetryableError as error:
                if not self.trouble:
                    log.warning("sink %s waits: %s", self._id, error)
                self.trouble = str(error)
            else:
                if self.trouble:
                    log.warning("sink %s goes on", self._id)
                self.trouble = ""
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _while_keeping(self, lease: Lease, work: Awaitable[T]) -> T:
        working = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({working}, timeout=self._lease_s / 3))[0]:
                await self._keep(lease)
            return working.result()
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await working

    async def _keep(self, lease: Lease) -> None:
        if await self._mesh.renew([lease], self._lease_s):
            msg = f"sink {self._id} lost its lease to another worker"
            raise FencedError(msg)
