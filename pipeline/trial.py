"""Lets faults happen to the patient and measures how the loop deals with each: ``aiops run --with-patient --once``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.assembly import Deployment
from pipeline.console.story import STREAMS, Step, Stories, Story
from pipeline.engine.outputs import DEAD_LETTERS
from pipeline.patient.ward import Patient
from pipeline.tap import now, tap
from topology.event import Event, Payload

SYSTEM = "ledger"
"""The system the patient is, in the shipped topology."""
CLOSED_WITHIN_S = 90.0
QUIET_S = 1.0
"""How long the patient must have been well before the next fault."""


@dataclass(frozen=True, slots=True)
class FaultReport:
    """How one fault went; times in seconds since it happened, None for what did not happen."""

    fault: str
    detected_after_s: float | None
    acted_after_s: float | None
    verified_after_s: float | None
    problem: str | None
    solution: str | None
    attempts: int
    verified: bool
    recalled: bool


@dataclass(slots=True)
class TrialReport:
    """What ``--once --json`` prints."""

    faults: list[FaultReport] = field(default_factory=list)
    events: int = 0
    dead_letters: int = 0

    @property
    def passed(self) -> bool:
        """Every fault was repaired and verified, and no event was given up."""
        return all(fault.verified for fault in self.faults) and not self.dead_letters

    def as_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


class Trial:
    """Watches the streams and lets faults happen, one after the other.

    Args:
        heard: told every event that is heard, for the console.
    """

    def __init__(
        self, deployment: Deployment, patient: Patient, heard: Callable[[Event[Payload], datetime], object]
    ) -> None:
        self._deployment = deployment
        self._patient = patient
        self._heard = heard
        self._stories = Stories()
        self._news = asyncio.Event()
        self._report = TrialReport()

    async def watch(self) -> None:
        """Follow the story's streams until cancelled; must run beside :meth:`run`."""
        streams = [self._deployment.topology.streams[name] for name in STREAMS]
        async for records in tap(self._deployment.mesh, [*streams, DEAD_LETTERS], since=now()):
            for record in records:
                if record.stream == DEAD_LETTERS.name:
                    self._report.dead_letters += 1
                elif record.event_type != "tick.passed":
                    at = datetime.fromtimestamp(record.offset.ms / 1000, UTC)
                    self._stories.take(record.event, at)
                    self._heard(record.event, at)
            self._news.set()

    async def run(self, faults: Sequence[str]) -> TrialReport:
        """Let each fault happen to the well patient, and wait until its loop is closed."""
        for fault in faults:
            await self.strike(fault)
        publisher = self._deployment.publisher
        self._report.events = self._deployment.worker.counts.outputs + (publisher.published if publisher else 0)
        return self._report

    async def strike(self, fault: str) -> FaultReport:
        """Let one fault happen, wait until its loop is closed or until it takes too long, and report."""
        await self._until(self._is_quiet, CLOSED_WITHIN_S)
        before = {story.incident for story in self._stories.of(SYSTEM)}
        struck_s = time.time()
        await self._patient.fault(fault)

        def story() -> Story | None:
            new = [story for story in self._stories.of(SYSTEM) if story.incident not in before]
            return next((story for story in new if story.cure), new[-1] if new else None)

        def is_closed() -> bool:
            found = story()
            return found is not None and found.is_closed

        if await self._until(is_closed, CLOSED_WITHIN_S):
            await self._until_known(story())
        report = _measure(fault, struck_s, story())
        self._report.faults.append(report)
        if not report.verified:
            await self._patient.heal()  # so that the next fault finds a well patient
        return report

    def _is_quiet(self) -> bool:
        return not [story for story in self._stories.open if story.system == SYSTEM]

    async def _until_known(self, story: Story | None) -> None:
        """Wait until the lesson is in the knowledge: only then can it be recalled."""
        if story is None:
            return
        deadline_s = time.monotonic() + CLOSED_WITHIN_S
        while time.monotonic() < deadline_s:
            known = await self._deployment.knowledge.incident(story.incident)
            if known is not None and any(experience.succeeded for experience in known.experiences):
                return
            await asyncio.sleep(0.05)

    async def _until(self, condition: Callable[[], bool], within_s: float) -> bool:
        deadline_s = time.monotonic() + within_s
        while not condition():
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return False
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), remaining_s)
            except TimeoutError:
                return condition()
        return True


def _measure(fault: str, struck_s: float, story: Story | None) -> FaultReport:
    def after(moment: datetime | None) -> float | None:
        return None if moment is None else round(moment.timestamp() - struck_s, 3)

    cure = story.cure if story else None
    repairs: list[Step] = story.repairs if story else []
    return FaultReport(
        fault=fault,
        detected_after_s=after(story.heard_at) if story else None,
        acted_after_s=after(repairs[0].started_at) if repairs else None,
        verified_after_s=after(cure.outcome_at) if cure else None,
        problem=story.diagnosis.problem if story and story.diagnosis else None,
        solution=cure.plan.solution if cure else None,
        attempts=len(repairs),
        verified=cure is not None,
        recalled=cure is not None and cure.plan.recalled,
    )
