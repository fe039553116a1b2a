"""How event time passes in a stage's partition: what came too late is told, and windows that time has passed conclude."""

from __future__ import annotations

from typing import Any

from pipeline.engine.outputs import OutputBuilder, dead_letter
from pipeline.engine.record import Output, Record
from pipeline.engine.verdict import Memory, WindowPoisonedError, window_of
from topology.agent import Agent
from topology.event import Event, Payload
from topology.graph import Stage
from topology.moments import span_us
from topology.state import ClosedWindow, EagerState


class EventTime:
    """The watermark of one partition, and what its agent's tables make of it.

    Attributes:
        watermark_us: the latest event time met, less the stage's lateness; it never goes back.
    """

    def __init__(
        self, stage: Stage, agent: Agent[Any, Any], outputs: OutputBuilder, memory: Memory, watermark_us: int
    ) -> None:
        self.watermark_us = watermark_us
        self._stage = stage
        self._agent = agent
        self._outputs = outputs
        self._memory = memory
        self._lateness_us = span_us(stage.spec.lateness)
        self._tables = tuple(agent.tables.values())
        self._eager = any(isinstance(table, EagerState) and table.eager for table in self._tables)

    def moved_by(self, event: Event[Payload]) -> bool:
        """Whether :meth:`pass_to` would find anything to do, after an event was processed."""
        if event.at_us - self._lateness_us > self.watermark_us or self._eager:
            return True
        for table in self._tables:  # noqa: SIM110 - a generator would cost more than the loop, once per event
            if table.late:
                return True
        return False

    def pass_to(self, event: Event[Payload], record: Record) -> list[Output]:
        """What the tables have to say once an event was processed: entries that came too late, windows that are over.

        Raises:
            WindowPoisonedError: the agent cannot conclude from a window.
        """
        outputs: list[Output] = []
        for table in self._tables:
            if entries := table.take_late():
                outputs += self._outputs.late(event, entries)
        watermark_us = event.at_us - self._lateness_us
        if watermark_us > self.watermark_us:
            self.watermark_us = watermark_us
        elif not self._eager:
            return outputs
        for table in self._tables:
            for closed in table.advance(self.watermark_us):
                outputs += self._conclude(closed, event, record)
        return outputs

    def _conclude(self, closed: ClosedWindow, event: Event[Payload], record: Record) -> list[Output]:
        if (verdict := self._memory.verdicts.get(window_of(closed))) is not None:
            return [dead_letter(self._stage.id, record, verdict, window=closed)]
        try:
            now_us = self.watermark_us + self._lateness_us
            return list(self._outputs.of_window(event, closed, self._agent.window_closed(closed), now_us))
        except Exception as error:  # the window is to blame, not the event that happened to close it
            raise WindowPoisonedError(closed) from error
