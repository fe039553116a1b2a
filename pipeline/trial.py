"""Lets faults happen to the patient and measures how the loop deals with each: ``aiops run --with-patient --once``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pipeline.assembly import Deployment
from pipeline.console.story import Step, Story
from pipeline.console.watch import Watch
from pipeline.patient.ward import Patient
from topology.errors import AiopsError

SYSTEM = "ledger"
"""The system the patient is, in the shipped topology."""
PROBED = ("ledger", "ledger-store")
"""Its services that have a health page."""
READY_WITHIN_S = 30.0
CLOSED_WITHIN_S = 90.0
_POLL_S = 0.05


class TrialImpossibleError(AiopsError):
    """The trial could not begin; nothing was broken."""


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


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What ``--once --json`` prints; ``events`` were put on streams by this worker and its sources."""

    faults: tuple[FaultReport, ...]
    events: int
    dead_letters: int

    @property
    def passed(self) -> bool:
        """Every fault was repaired and verified, and no event was given up."""
        return all(fault.verified for fault in self.faults) and not self.dead_letters

    def as_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


class Trial:
    """Lets faults happen, one after the other, and reports how the loop dealt with each.

    Args:
        watch: follows the streams; must be running.
    """

    def __init__(self, deployment: Deployment, patient: Patient, watch: Watch) -> None:
        self._deployment = deployment
        self._patient = patient
        self._watch = watch

    async def run(self, faults: Sequence[str]) -> TrialReport:
        """Let each fault happen to the well patient, and wait until its loop is closed.

        Raises:
            TrialImpossibleError: the loop, or the patient, did not get ready.
        """
        await self.ready()
        reports = [await self.strike(fault) for fault in faults]
        publisher, counts = self._deployment.publisher, self._deployment.worker.counts
        events = counts.outputs + (publisher.published if publisher else 0)
        return TrialReport(tuple(reports), events, self._watch.dead_letters)

    async def ready(self) -> None:
        """Wait until the loop hears the patient and the patient is well."""

        def hears_the_patient() -> bool:
            return all(self._watch.pulse.health_of(service).startswith("ok") for service in PROBED)

        if not await self._watch.until(hears_the_patient, READY_WITHIN_S):
            heard = {service: self._watch.pulse.health_of(service) or "nothing" for service in PROBED}
            msg = f"after {READY_WITHIN_S:.0f} s the loop heard {heard} of the patient, expected ok; see `aiops doctor`"
            raise TrialImpossibleError(msg)

    async def strike(self, fault: str) -> FaultReport:
        """Let one fault happen, wait until its loop is closed or until it takes too long, and report."""
        await self._watch.until(self._is_quiet, CLOSED_WITHIN_S)
        stories = self._watch.stories
        before = {story.incident for story in stories.of(SYSTEM)}
        struck_s = time.time()
        await self._patient.fault(fault)

        def story() -> Story | None:
            new = [story for story in stories.of(SYSTEM) if story.incident not in before]
            return next((story for story in new if story.cure), new[-1] if new else None)

        def is_closed() -> bool:
            found = story()
            return found is not None and found.is_closed

        if await self._watch.until(is_closed, CLOSED_WITHIN_S):
            await self._until_known(story())
        report = _measure(fault, struck_s, story())
        if not report.verified:
            await self._patient.heal()  # so that the next fault finds a well patient
        return report

    def _is_quiet(self) -> bool:
        return not [story for story in self._watch.stories.open if story.system == SYSTEM]

    async def _until_known(self, story: Story | None) -> None:
        """Wait until the lesson is in the knowledge: only then can it be recalled."""
        deadline_s = time.monotonic() + CLOSED_WITHIN_S
        while story is not None and time.monotonic() < deadline_s:
            known = await self._deployment.knowledge.incident(story.incident)
            if known is not None and any(experience.succeeded for experience in known.experiences):
                return
            await asyncio.sleep(_POLL_S)


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
