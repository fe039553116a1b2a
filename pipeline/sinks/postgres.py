"""Knowledge and stories into Postgres, from the events of the incident loop."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pipeline.knowledge.batch import Batch
from pipeline.knowledge.collect import collect
from pipeline.knowledge.connections import HELD_WITHIN_S, Pool, UnstorableDataError, borrowed
from pipeline.knowledge.migrate import require_current_schema
from pipeline.knowledge.upserts import COUNT_SIGHTINGS, COUNT_SUCCESSES, TAKE_WRITERS_LOCK, WRITERS_LOCK
from pipeline.knowledge.vectors import Embed, Embedding
from topology.event import Event, Payload


class UnstorableEventError(UnstorableDataError):
    """Postgres will never take this event; the events before it in the batch are stored, those after it are not yet.

    Attributes:
        event_id: the event to dead-letter; then write the batch again without it.
    """

    def __init__(self, message: str, *, event_id: UUID) -> None:
        super().__init__(message)
        self.event_id = event_id


class KnowledgeSink:
    """Writes incidents, diagnoses, plans, approvals, actions, outcomes and lessons; other events are passed over.

    Idempotent: the same events, in any order and any number of times, give the same rows. A batch is one transaction, so that all
    of it is seen or nothing.

    Args:
        pool: from `pipeline.knowledge.connections.open_pool`, borrowed: whoever opened it closes it.
        embed: a text as 1536 numbers; quick and local, for it runs in the event loop.
        provider: the id of `embed`, stored with each vector.
        write_within_s: a batch that takes longer is given up, to be tried again.
    """

    def __init__(self, pool: Pool, *, embed: Embed, provider: str, write_within_s: float = HELD_WITHIN_S) -> None:
        self._pool = pool
        self._write_within_s = write_within_s
        self._embedding = Embedding(embed, provider)

    async def open(self) -> None:
        """Check that the store can be reached and has this release's schema.

        Raises:
            RetryableError: the store is away.
            ConfigurationError: the schema is not the one this release was written for; run the migrations.
        """
        async with borrowed(self._pool, "open the knowledge") as connection:
            await require_current_schema(connection)

    async def write(self, events: Sequence[Event[Payload]]) -> None:
        """Store a batch; durable when it returns.

        Raises:
            RetryableError: the store is away or busy; nothing of the batch was kept, or all of it was and the answer was lost.
            UnstorableEventError: one event cannot be stored, ever.
        """
        try:
            await self._commit(collect(events, self._embedding))
        except UnstorableDataError as refusal:
            if len(events) == 1:
                event = events[0]
                msg = f"found {event.event_type} {event.id} that cannot be stored: {refusal}; it belongs into the dead letters"
                raise UnstorableEventError(msg, event_id=event.id) from refusal
            # One bad event must not hold up the others for ever: written one by one, the bad one names itself.
            for event in events:
                await self.write([event])

    async def close(self) -> None:
        """Nothing to do: every batch is complete when `write` returns, and the pool is borrowed."""

    async def _commit(self, batch: Batch) -> None:
        if not batch.rows:
            return
        async with (
            borrowed(self._pool, "write knowledge", within_s=self._write_within_s) as connection,
            connection.transaction(),
        ):
            await connection.execute(TAKE_WRITERS_LOCK, WRITERS_LOCK)
            for upsert, rows in batch.in_order():
                await connection.executemany(upsert.sql, rows)
            if batch.problems_diagnosed:
                await connection.execute(COUNT_SIGHTINGS, sorted(batch.problems_diagnosed))
            if batch.problems_treated:
                await connection.execute(COUNT_SUCCESSES, sorted(batch.problems_treated))
