"""How event time passes in a stage's partition: what came too late is told, and windows that time has passed conclude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.engine.outputs import OutputBuilder, dead_letter
from pipeline.engine.record import Output, Record
from pipeline.engine.verdict import Memory, Window, WindowPoisonedError, window_of
from topology.agent import Agent
from topology.event import Event, Payload
from topology.graph import Stage
from topology.moments import span_us
from topology.state import ClosedWindow, EagerState


class EventTime:
    """The watermark of one partition, and what its agent's tables make of it.

    Attributes:
        watermark_us: the latest event time met, less the stage's lateness; it never goes back.
        given_up: windows that became dead letters since verdicts were last forgotten.
    """

    def __init__(
        self, stage: Stage, agent: Agent[Any, Any], outputs: OutputBuilder, memory: Memory, watermark_us: int
    ) -> None:
        self.watermark_us = watermark_us
        self.given_up: list[Window] = []
        self._stage = stage
        self._agent = agent
        self._outputs = outputs
        self._memory = memory
        self._lateness_us = span_us(stage.spec.lateness)
        self._tables = tuple(agent.tables.values())
        self._eager = any(isinstance(table, EagerState) and table.eager for table in self._tables)

    def pass_to(self, event: Event[Payload], record: Record) -> Sequence[Output]:
        """What the tables have to say once an event was processed: entries that came too late, windows that are over.

        Raises:
            WindowPoisonedError: the agent cannot conclude from a window.
        """
        watermark_us = event.at_us - self._lateness_us
        moves = watermark_us > self.watermark_us
        if moves:
            self.watermark_us = watermark_us
        outputs: list[Output] | None = None  # a list for each event would be one for nothing, mostly
        for table in self._tables:
            if table.late:
                outputs = outputs or []
                outputs += self._outputs.late(event, table.take_late())
            if (moves or self._eager) and (over := table.advance(self.watermark_us)):
                outputs = outputs or []
                for closed in over:
                    outputs += self._conclude(closed, event, record)
        return outputs or ()

    def _conclude(self, closed: ClosedWindow, event: Event[Payload], record: Record) -> list[Output]:
        window = window_of(closed, event)
        if (verdict := self._memory.verdicts.get(window)) is not None:
            self.given_up.append(window)
            return [dead_letter(self._stage.id, record, verdict, window=closed)]
        try:
            now_us = self.watermark_us + self._lateness_us
            return list(self._outputs.of_window(event, closed, self._agent.window_closed(closed), now_us))
        except Exception as error:  # the window is to blame, not the event that happened to close it
            raise WindowPoisonedError(window) from error
