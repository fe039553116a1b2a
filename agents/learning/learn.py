"""Turn outcomes into experience, and say when experience changes what a solution is worth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tables.keyed import Keyed
from tables.ranking import Tally, posterior_mean
from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.ids import derived_id
from topology.payloads.healing import OutcomeVerified
from topology.payloads.lessons import ExperienceRecorded, SolutionRevised

Standing = Literal["unknown", "helps", "mixed", "does not help"]
Output = ExperienceRecorded | SolutionRevised


class LearnConfig(AgentConfig):
    """How lessons are drawn.

    Attributes:
        environment: where this is running, such as ``production``.
        helps_from, helps_not_below: expected success rates from which a solution is said to help, or not to.
    """

    environment: str = ""
    helps_from: float = Field(default=0.6, ge=0.5, le=1.0)
    helps_not_below: float = Field(default=0.4, ge=0.0, le=0.5)


class Record(BaseModel):
    """How one solution, aimed at one target, did for one problem."""

    model_config = ConfigDict(frozen=True)

    successes: int = 0
    trials: int = 0


class Learn(Agent[OutcomeVerified, Output]):
    """Records every outcome as an experience, and revises a solution whose standing it changes.

    Remembers: successes and trials for each problem, solution and target.
    """

    Config = LearnConfig

    records = Keyed("records", value=Record)

    def process(self, event: Event[OutcomeVerified], world: World) -> Iterable[Output]:
        """The outcome of a repair in, what it teaches out."""
        del world
        outcome = event.payload
        succeeded = outcome.verdict == "verified"
        yield ExperienceRecorded(
            experience=derived_id("experience", outcome.action),
            incident=outcome.incident,
            system=outcome.system,
            problem=outcome.problem,
            solution=outcome.solution,
            target=outcome.request.target,
            environment=self.config.environment,
            request=outcome.request,
            succeeded=succeeded,
            attempt=outcome.attempt,
            recovery_s=outcome.healthy_after_s if succeeded else None,
            detail=outcome.detail,
        )
        key = "|".join((outcome.problem, outcome.solution, outcome.request.target))
        before = self.records.get(key) or Record()
        after = Record(successes=before.successes + succeeded, trials=before.trials + 1)
        self.records.put(key, after)
        standing = self._standing(after)
        if standing != self._standing(before):
            yield SolutionRevised(
                solution=outcome.solution,
                system=outcome.system,
                problem=outcome.problem,
                successes=after.successes,
                trials=after.trials,
                advice=f"{outcome.solution} on {outcome.request.target} {_ADVICE[standing]}",
            )

    def _standing(self, record: Record) -> Standing:
        if not record.trials:
            return "unknown"
        expected = posterior_mean(Tally(record.successes, record.trials))
        if expected >= self.config.helps_from:
            return "helps"
        return "does not help" if expected <= self.config.helps_not_below else "mixed"


_ADVICE: dict[Standing, str] = {
    "unknown": "has not been tried",
    "helps": "helps: try it first",
    "mixed": "helps sometimes: look for something better",
    "does not help": "does not help: try something else",
}
