"""Follows the streams and keeps what people want to see of them: stories, the pulse, dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pipeline.console.pulse import Pulse
from pipeline.console.story import STREAMS, Stories, Story
from pipeline.engine.mesh import Mesh
from pipeline.engine.outputs import DEAD_LETTERS
from pipeline.engine.record import Offset, Record
from pipeline.tap import ago, now, tap
from topology.graph import Topology
from topology.payloads.operation import EventDeadLettered, TickPassed

_SIGNALS = "signals"


STORIES_SINCE = timedelta(minutes=15)
"""Stories that were open when the last run ended are told to their end."""


class Watch:
    """What is known from the streams: stories of the last minutes, everything else since the watch began.

    Attributes:
        dead_letters: events that were given up.
    """

    def __init__(self, mesh: Mesh, topology: Topology) -> None:
        self._mesh = mesh
        self._streams = [stream for stream in topology.stored if stream.name in (*STREAMS, _SIGNALS)]
        self._since: dict[str, Offset] = dict.fromkeys((_SIGNALS, DEAD_LETTERS.name), now())
        self._since.update(dict.fromkeys(STREAMS, ago(STORIES_SINCE)))
        self._began = datetime.now(UTC)
        self._news = asyncio.Event()
        self.stories = Stories()
        self.pulse = Pulse()
        self.dead_letters = 0

    async def run(self) -> None:
        """Follow until cancelled; after an outage of the mesh it goes on where it was."""
        async for records in tap(self._mesh, [*self._streams, DEAD_LETTERS], since=self._since):
            events = 0
            for record in records:
                self._since[record.stream] = max(self._since[record.stream], record.offset)
                events += record.event_type != TickPassed.event_type
                self._take(record)
            self.pulse.count(time.monotonic(), events)
            self._news.set()

    @property
    def current(self) -> list[Story]:
        """Stories that are not over, or were not when the watch began; oldest first."""
        return [story for story in self.stories if story.resolved_at is None or story.resolved_at > self._began]

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until something that was heard makes the condition true; False when that takes too long."""
        deadline_s = time.monotonic() + within_s
        while not condition():
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return False
            await self.news(remaining_s)
        return True

    async def news(self, within_s: float) -> None:
        """Wait until the next batch was heard, but no longer than so many seconds."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), within_s)
        except TimeoutError:
            return

    def _take(self, record: Record) -> None:
        if record.stream == DEAD_LETTERS.name:
            self.dead_letters += record.event_type == EventDeadLettered.event_type
        elif record.stream == _SIGNALS:
            if record.event_type != TickPassed.event_type:
                self.pulse.take(record.event)
        elif record.event_type != TickPassed.event_type:
            self.stories.take(record.event, datetime.fromtimestamp(record.offset.ms / 1000, UTC))
