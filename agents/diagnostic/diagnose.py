"""Find out why: the root cause of an incident, whether it is known, and what could help."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from agents.diagnostic.candidates import candidates_for
from agents.diagnostic.root_cause import Cause, Services, find_cause, upstream_of
from agents.diagnostic.wording import problem_description, problem_title
from agents.ports import RecallProblem, Recollection
from tables.fingerprint import Evidence, fingerprint
from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.errors import AiopsError, RetryableError
from topology.event import Event
from topology.payloads.diagnoses import ProblemDiagnosed
from topology.payloads.incidents import IncidentOpened, IncidentResolved, IncidentUpdated, Symptom
from topology.payloads.operation import TickPassed
from topology.spec import SolutionSpec, SystemSpec

Input = IncidentOpened | IncidentUpdated | IncidentResolved | TickPassed

_IDENTIFYING_SUBJECTS = ("log.", "metric.", "pattern.")
"""Families whose subject is the same whenever the problem is met again, so that it belongs to the problem's identity."""


_LAST_TICK = "tick"


class DiagnoseConfig(AgentConfig):
    """What a diagnosis needs to know.

    Attributes:
        systems: which services depend on which.
        solutions: what could be tried.
        settle: how long symptoms may gather before the first conclusion; the cause is seldom what is seen first.
        deaf_after: where ticks are missing for longer than this nobody was listening (the pipeline was stopped), and
            what was known may be over.
        resettle: so long is waited then before anything is concluded, so that what is over can clear.
        environment: where this is running, such as ``production``; experience is kept apart by it.
        similar_max: how many similar problems are recalled.
    """

    systems: Mapping[str, SystemSpec] = {}
    solutions: tuple[SolutionSpec, ...] = ()
    settle: Duration = timedelta(seconds=1)
    deaf_after: Duration = timedelta(seconds=5)
    resettle: Duration = timedelta(seconds=4)
    environment: str = ""
    similar_max: int = Field(default=5, ge=1, le=50)


class Case(BaseModel):
    """An incident that is followed.

    Attributes:
        seen: the incident as it was last told.
        due_at: when to conclude; None while there is nothing to conclude.
        cause: the service taken to be the root cause, once there is a diagnosis.
    """

    model_config = ConfigDict(frozen=True)

    seen: IncidentUpdated
    due_at: datetime | None
    cause: str = ""


class Diagnose(Agent[Input, ProblemDiagnosed]):
    """Concludes once per incident, after symptoms had time to gather.

    It concludes again only when a service turns out to be ill on which the one found first depends, and still is after
    the symptoms settled: repairs cause passing symptoms of their own.

    The problem's fingerprint rests on system, root service and kind of symptom, and on what the symptom is about where
    that is the same each time; so timing does not change it.

    Remembers: the incidents that are open, and the last tick.
    """

    Config = DiagnoseConfig

    cases = Keyed("cases", value=Case)
    ticks = Keyed("ticks", value=datetime)

    async def process(self, event: Event[Input], world: World) -> AsyncIterator[ProblemDiagnosed]:
        """An incident as it stands, or the passing of time, in; the diagnosis out."""
        payload = event.payload
        if isinstance(payload, TickPassed):
            # First every question, then what follows from the answers: an engine may begin again at each question.
            due = [] if self._was_deaf(event.timestamp) else self._due(event.timestamp)
            concluded = [(key, case, await self._conclude(case.seen, cause, world)) for key, case, cause in due]
            for key, case, diagnosis in concluded:
                self.cases.put(key, case.model_copy(update={"due_at": None, "cause": diagnosis.service}))
                yield diagnosis
            self._note_tick(event.timestamp)
        elif isinstance(payload, IncidentResolved):
            self.cases.delete(str(payload.incident))
        else:
            self._follow(payload, event.timestamp)

    def _follow(self, incident: IncidentOpened | IncidentUpdated, at: datetime) -> None:
        key = str(incident.incident)
        case = self.cases.get(key)
        seen = IncidentUpdated(**dict(incident))
        settled_at = at + self.config.settle
        if case is None:
            self.cases.put(key, Case(seen=seen, due_at=settled_at))
            return
        due_at = case.due_at
        if due_at is None and self._has_new_cause(case, seen):
            due_at = settled_at
        self.cases.put(key, case.model_copy(update={"seen": seen, "due_at": due_at}))

    def _was_deaf(self, now: datetime) -> bool:
        last = self.ticks.get(_LAST_TICK)
        return last is not None and now - last > self.config.deaf_after

    def _note_tick(self, now: datetime) -> None:
        if self._was_deaf(now):
            for key, case in self.cases.items():
                if case.due_at is not None:
                    self.cases.put(key, case.model_copy(update={"due_at": now + self.config.resettle}))
        self.ticks.put(_LAST_TICK, now)

    def _due(self, now: datetime) -> list[tuple[str, Case, Cause]]:
        found: list[tuple[str, Case, Cause]] = []
        for key, case in self.cases.items():
            if case.due_at is None or case.due_at > now:
                continue
            cause = self._cause_of(case.seen)
            if cause is not None and (not case.cause or self._has_new_cause(case, case.seen)):
                found.append((key, case, cause))
        return found

    def _has_new_cause(self, case: Case, seen: IncidentUpdated) -> bool:
        cause = self._cause_of(seen)
        return cause is not None and cause.symptom.service in upstream_of(case.cause, self._services(seen.system))

    def _cause_of(self, seen: IncidentUpdated) -> Cause | None:
        return find_cause(seen.pressing_symptoms, self._services(seen.system))

    def _services(self, system: str) -> Services:
        declared: SystemSpec | None = self.config.systems.get(system)
        return declared.services if declared else {}

    async def _conclude(self, seen: IncidentUpdated, cause: Cause, world: World) -> ProblemDiagnosed:
        config: DiagnoseConfig = self.config
        symptom = cause.symptom
        subject = symptom.subject if symptom.kind.startswith(_IDENTIFYING_SUBJECTS) else ""
        problem = fingerprint(Evidence(symptom="|".join((symptom.kind, seen.system, subject)), service=symptom.service))
        title = problem_title(symptom, subject)
        patterns = tuple(dict.fromkeys(s.subject for s in seen.symptoms if s.kind == "log.errors"))
        question = RecallProblem(
            problem=problem.id,
            text="\n".join((title, *patterns)),
            system=seen.system,
            environment=config.environment,
            limit=config.similar_max,
        )
        recollection = await _recall(question, world)
        return ProblemDiagnosed(
            incident=seen.incident,
            system=seen.system,
            service=symptom.service,
            problem=problem.id,
            title=title,
            description=problem_description(title, seen.symptoms, seen.changes, seen.why),
            severity=seen.severity,
            confidence=_confidence(cause, known=recollection.known),
            recalled=recollection.known,
            evidence=tuple(_in_words(s) for s in seen.symptoms),
            error_patterns=patterns,
            context=_context(cause, seen, config, recollection),
            similar=recollection.similar,
            candidates=candidates_for(
                problem.id,
                symptom.kind,
                symptom.service,
                solutions=config.solutions,
                services=self._services(seen.system),
                changes=seen.changes,
                recollection=recollection,
            ),
        )


async def _recall(question: RecallProblem, world: World) -> Recollection:
    try:
        return await world.ask(question)
    except RetryableError:
        raise
    except AiopsError as error:  # a repair without experience is better than none
        return Recollection(degraded=f"nothing could be recalled: {error}")


def _confidence(cause: Cause, *, known: bool) -> float:
    """How sure the root cause is: sure of what only an ill service shows, less of what is seen from outside."""
    kind = cause.symptom.kind
    if kind.startswith(("health.", "heartbeat.", "memory.")):
        confidence = 0.8
    elif kind.startswith("latency."):
        confidence = 0.6
    else:
        confidence = 0.4
    confidence /= 1 + cause.rivals
    return round(confidence + (1 - confidence) / 2 if known else confidence, 3)


def _context(
    cause: Cause, seen: IncidentUpdated, config: DiagnoseConfig, recollection: Recollection
) -> Mapping[str, object]:
    context: dict[str, object] = {
        "kind": cause.symptom.kind,
        "subject": cause.symptom.subject,
        "rivals": cause.rivals,
        "changes": [f"{change.service}: {change.change}" for change in seen.changes],
    }
    if config.environment:
        context["environment"] = config.environment
    if recollection.degraded:
        context["degraded"] = recollection.degraded
    return context


def _in_words(symptom: Symptom) -> str:
    told = symptom.summary or problem_title(symptom, symptom.subject)
    return f"{told} (over)" if symptom.cleared_at is not None else told
