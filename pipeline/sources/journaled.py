"""Publishes what sources hear, through the journal while the mesh cannot take it.

What was kept is published in the order in which it was heard, before anything that is heard later.  A publication whose
outcome nobody knows is kept as well: the mesh drops what it has already, by event id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pipeline.engine.mesh import LostWritesError, MeshUnavailableError
from pipeline.engine.publisher import Publish, Publisher
from pipeline.sources.journal import Journal, Keeping
from pipeline.sources.journal_files import Line
from topology.codec import decode, encode
from topology.errors import BadInputError, TopologyError
from topology.event import Event, Payload

log = logging.getLogger(__name__)

PUBLISH_WITHIN_S = 5.0
"""A mesh that has not answered for so long is as good as away for whoever waits to be told that its events are taken."""
_EVENTS_PER_DRAIN = 500
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

T = TypeVar("T")


class JournaledPublisher:
    """Hands out a ``Publish`` per source; :meth:`run` brings what was kept into the mesh.

    Args:
        journal: None when this process has none; then what the mesh does not take is refused, or dropped and counted.

    Attributes:
        kept: events that went through the journal since the start.
    """

    def __init__(self, publisher: Publisher, journal: Journal | None) -> None:
        self._publisher = publisher
        self._journal = journal
        self._dropped_without: Counter[str] = Counter()
        self._using = asyncio.Lock()
        self._behind = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._at_work: set[asyncio.Task[object]] = set()
        self._told: set[str] = set()
        self.kept = 0
        if journal is not None and journal.waiting.events:
            self._behind.set()
        else:
            self._caught_up.set()

    @property
    def dropped(self) -> Counter[str]:
        """Events that could not be kept, by source, since the start."""
        return self._dropped_without + (self._journal.dropped if self._journal is not None else Counter())

    @property
    def trouble(self) -> str:
        """What waits in the journal and what was lost, by name and count; empty when neither is so."""
        said = []
        if self._journal is not None and (waiting := self._journal.waiting).events:
            since = datetime.fromtimestamp(waiting.since_ms / 1000).astimezone()
            said.append(
                f"the journal keeps {waiting.events:,} events ({waiting.size / 1e6:.1f} MB) of "
                f"{', '.join(waiting.sources)} since {since:%H:%M:%S}"
            )
        if dropped := self.dropped:
            counts = ", ".join(f"{events:,} of {source}" for source, events in sorted(dropped.items()))
            said.append(f"events that could not be kept: {counts}")
        return "; ".join(said)

    def of(self, source: str, keeping: Keeping) -> Publish:
        """The ``Publish`` for one source; durable when it returns, in the mesh or in the journal.

        It answers how many events were new as far as that is known: of kept ones all.  It raises ``RetryableError`` when
        nothing was taken, which can only be when the source wants to know, and ``TopologyError`` as ``Publisher`` does.
        """
        if keeping.when_full == "wait":
            return self._until_taken

        async def publish(events: Sequence[Event[Payload]]) -> int:
            self._publisher.check(events)
            if not self._behind.is_set():
                try:
                    async with asyncio.timeout(PUBLISH_WITHIN_S):
                        return await self._publisher(events)
                except (MeshUnavailableError, LostWritesError, TimeoutError) as error:
                    if self._journal is None and keeping.when_full == "refuse":
                        msg = f"{str(error) or 'the mesh does not answer'}; there is no journal to keep events of {source} in"
                        raise MeshUnavailableError(msg) from error
            await self._keep(source, keeping, events)
            return len(events)

        return publish

    async def run(self) -> None:
        """Bring what was kept into the mesh, now and whenever there is something, until cancelled.

        Raises:
            LostWritesError: the mesh forgot what it had taken; what is kept stays kept.
        """
        journal = self._journal
        if journal is None:
            await asyncio.Event().wait()
            return
        while True:
            await self._behind.wait()
            published = 0
            while lines := await self._to_the_end(self._take(journal)):
                await self._publish(journal, lines)
                published += sum(len(line.events) for line in lines)
                await self._to_the_end(self._done(journal))
            if published:
                log.warning("%d events from the journal are in the mesh", published)

    async def caught_up(self) -> None:
        """Wait until nothing is kept that is not in the mesh."""
        await self._caught_up.wait()

    async def close(self) -> None:
        """Let another process have the journal; what it keeps stays."""
        if self._journal is not None:
            async with self._using:
                await asyncio.to_thread(self._journal.close)

    async def _take(self, journal: Journal) -> list[Line]:
        async with self._using:
            lines = await asyncio.to_thread(journal.take, _EVENTS_PER_DRAIN)
            if not lines:
                self._told.clear()
                self._behind.clear()
                self._caught_up.set()
            return lines

    async def _done(self, journal: Journal) -> None:
        async with self._using:
            await asyncio.to_thread(journal.done)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it even when the caller is cancelled: a thread cannot be, and must not meet the next one in the journal."""
        task = asyncio.create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return await asyncio.shield(task)

    async def _publish(self, journal: Journal, lines: list[Line]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                try:
                    await self._publisher([decode(event) for line in lines for event in line.events])
                except (BadInputError, TopologyError):
                    await self._one_by_one(journal, lines)
            except MeshUnavailableError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                return

    async def _one_by_one(self, journal: Journal, lines: list[Line]) -> None:
        """Find what an older release could publish and this one cannot; it must not hold up the rest."""
        for event in [event for line in lines for event in line.events]:
            try:
                await self._publisher([decode(event)])
            except (BadInputError, TopologyError) as error:
                log.warning("an event in the journal cannot be published and is set aside: %s", error)
                await asyncio.to_thread(journal.set_aside, [event], str(error))

    async def _keep(self, source: str, keeping: Keeping, events: Sequence[Event[Payload]]) -> None:
        if self._journal is None:
            self._dropped_without[source] += len(events)
            self._tell_dropped(source, "there is no journal")
        elif events:
            await self._to_the_end(self._append(self._journal, source, keeping, [encode(event) for event in events]))

    async def _append(self, journal: Journal, source: str, keeping: Keeping, events: list[bytes]) -> None:
        async with self._using:
            dropped = journal.dropped
            try:
                kept = await asyncio.to_thread(journal.append, source, keeping, events)
            finally:
                for name in journal.dropped - dropped:
                    self._tell_dropped(name, journal.refusal)
            if kept:
                self.kept += len(events)
                self._caught_up.clear()
                self._behind.set()

    def _tell_dropped(self, source: str, reason: str) -> None:
        if source not in self._told:  # once in an outage; `trouble` counts
            self._told.add(source)
            log.warning("the mesh is away, and events of %s are dropped: %s", source, reason)

    async def _until_taken(self, events: Sequence[Event[Payload]]) -> int:
        """For a source whose events are kept by whoever it hears from: nothing is taken before the mesh takes it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._caught_up.wait()
            try:
                return await self._publisher(events)
            except MeshUnavailableError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
