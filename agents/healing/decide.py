"""Choose what to try: for each incident one thing at a time, until it is over or nothing is worth trying."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from tables.keyed import Keyed
from tables.ranking import NOTHING, Choice, Tally, posterior_mean, rank_choices
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.event import Event
from topology.ids import derived_id
from topology.payloads.collaboration import HelpRequested
from topology.payloads.diagnoses import Candidate, ProblemDiagnosed
from topology.payloads.healing import ActionFinished, ActionRequest, OutcomeVerified, PlanProposed
from topology.payloads.incidents import IncidentOpened, IncidentResolved, IncidentUpdated
from topology.spec import SystemSpec

Input = ProblemDiagnosed | OutcomeVerified | ActionFinished | IncidentOpened | IncidentUpdated | IncidentResolved

_PROVEN_FROM = 0.5
"""A proven solution goes before everything untried unless it has failed more often than that."""


class DecideConfig(AgentConfig):
    """What decisions rest on.

    Attributes:
        systems: how far repairs may go in which; ``observe`` means that nothing is even proposed.
        remember_resolved: how long a resolved incident is remembered, so that a late diagnosis starts nothing.
    """

    systems: Mapping[str, SystemSpec] = {}
    remember_resolved: Duration = timedelta(minutes=10)


class Flight(BaseModel):
    """The one plan of an incident that is under way."""

    model_config = ConfigDict(frozen=True)

    plan: UUID
    is_undo: bool = False


class Case(BaseModel):
    """What was concluded and tried in one incident.

    Attributes:
        tried: keys of the candidates that were proposed.
        ill: whether the incident had pressing symptoms at ``as_of``; taken to be so until it is heard otherwise.
        cured_by: the candidate whose outcome was verified; it may be tried again when the symptoms come back.
        resolved_at: set once the incident is over.
    """

    model_config = ConfigDict(frozen=True)

    diagnosis: ProblemDiagnosed | None = None
    candidates: tuple[Candidate, ...] = ()
    tried: tuple[str, ...] = ()
    attempts: int = 0
    flight: Flight | None = None
    ill: bool = True
    as_of: datetime | None = None
    cured_by: str = ""
    resolved_at: datetime | None = None


class Decide(Agent[Input, PlanProposed]):
    """Proposes the most useful candidate, waits for its outcome, and goes on while symptoms press.

    What has helped with this very problem before comes first; else what is worth most on average, success rate less
    cost and risk, where doing nothing is among the choices.  A rejected repair is undone before the next is tried.  No
    candidate is tried twice in an incident, unless it cured it and the symptoms came back.

    Remembers: one case for each incident that is open, and for a while those that are over.
    """

    Config = DecideConfig

    cases = Keyed("cases", value=Case)

    def process(self, event: Event[Input], world: World) -> Iterable[PlanProposed]:
        """What happened to an incident or a plan in; the next plan, when it is time for one, out."""
        del world
        payload = event.payload
        key = str(payload.incident)
        case = self.cases.get(key) or Case()
        if case.resolved_at is not None:
            return
        if isinstance(payload, IncidentResolved):
            self.cases.put(key, Case(resolved_at=event.timestamp))
            self._forget(event.timestamp)
            return
        undo: PlanProposed | None = None
        if isinstance(payload, ProblemDiagnosed):
            case = _with_diagnosis(case, payload)
        elif isinstance(payload, IncidentOpened | IncidentUpdated):
            case = _with_condition(case, ill=bool(payload.pressing_symptoms), at=event.timestamp)
        elif isinstance(payload, ActionFinished):
            case = _after_action(case, payload)
        else:
            case, undo = self._after_outcome(case, payload, event.timestamp)
        plan = undo or self._next_plan(case)
        if plan is not None:
            case = _with_plan(case, plan)
            yield plan
        self.cases.put(key, case)

    def request_help(self, problem: ProblemDiagnosed) -> HelpRequested | None:
        """Ask for help with a problem for which nothing worth trying is left; None while something is."""
        case = self.cases.get(str(problem.incident)) or _with_diagnosis(Case(), problem)
        if case.resolved_at is not None or case.flight is not None or _best(case) is not None:
            return None
        return HelpRequested(
            request=derived_id("help", problem.incident, *case.tried),
            incident=problem.incident,
            system=problem.system,
            problem=problem.problem,
            description=problem.description,
            tried=case.tried,
        )

    def _after_outcome(self, case: Case, outcome: OutcomeVerified, at: datetime) -> tuple[Case, PlanProposed | None]:
        if case.flight is None or case.flight.plan != outcome.plan:
            return case, None
        case = case.model_copy(update={"flight": None})
        if outcome.verdict == "verified":
            cured = case.model_copy(update={"cured_by": key_of(outcome.solution, outcome.request)})
            return _with_condition(cured, ill=False, at=at), None
        if outcome.undo is None:
            return case, None
        return case, PlanProposed(
            plan=derived_id("undo", outcome.plan),
            incident=outcome.incident,
            system=outcome.system,
            problem=outcome.problem,
            solution=outcome.solution,
            request=outcome.undo,
            attempt=outcome.attempt,
            autonomy=self._autonomy(outcome.system),
            undo_of=outcome.action,
            reason=f"{outcome.solution} did not help ({outcome.detail}); it is taken back before the next is tried",
        )

    def _next_plan(self, case: Case) -> PlanProposed | None:
        diagnosis = case.diagnosis
        if diagnosis is None or case.flight is not None or not case.ill:
            return None
        autonomy = self._autonomy(diagnosis.system)
        best = _best(case) if autonomy != "observe" else None
        if best is None:
            return None
        attempt = case.attempts + 1
        recalled = best.proven
        return PlanProposed(
            plan=derived_id("plan", diagnosis.incident, diagnosis.problem, attempt),
            incident=diagnosis.incident,
            system=diagnosis.system,
            problem=diagnosis.problem,
            solution=best.solution,
            request=best.request,
            attempt=attempt,
            autonomy=autonomy,
            recalled=recalled,
            success_rate=round(best.successes / best.trials, 3) if best.trials else None,
            experiences=round(best.trials),
            reason=_reason(best, attempt),
        )

    def _autonomy(self, system: str) -> Literal["observe", "suggest", "approve", "auto"]:
        declared: SystemSpec | None = self.config.systems.get(system)
        return declared.autonomy if declared else "suggest"

    def _forget(self, now: datetime) -> None:
        for key, case in self.cases.items():
            if case.resolved_at is not None and now - case.resolved_at > self.config.remember_resolved:
                self.cases.delete(key)


def key_of(solution: str, request: ActionRequest) -> str:
    """What makes two candidates the same thing to try."""
    return f"{solution} > {request.target}"


def _with_diagnosis(case: Case, diagnosis: ProblemDiagnosed) -> Case:
    # A later diagnosis knows better, but what an earlier one thought of may still be tried after it.
    keys = {key_of(candidate.solution, candidate.request) for candidate in diagnosis.candidates}
    earlier = tuple(c for c in case.candidates if key_of(c.solution, c.request) not in keys)
    return case.model_copy(update={"diagnosis": diagnosis, "candidates": (*diagnosis.candidates, *earlier)})


def _with_condition(case: Case, *, ill: bool, at: datetime) -> Case:
    # Incidents and outcomes come on two streams, so what is heard last need not be the latest.
    if case.as_of is not None and at < case.as_of:
        return case
    return case.model_copy(update={"ill": ill, "as_of": at})


def _after_action(case: Case, finished: ActionFinished) -> Case:
    if case.flight is None or case.flight.plan != finished.plan:
        return case
    # A repair that ran waits for its outcome; one that was refused never gets one, and an undo needs none.
    if finished.undo_of is not None or finished.status == "refused":
        return case.model_copy(update={"flight": None})
    return case


def _with_plan(case: Case, plan: PlanProposed) -> Case:
    flight = Flight(plan=plan.plan, is_undo=plan.undo_of is not None)
    if flight.is_undo:
        return case.model_copy(update={"flight": flight})
    tried = tuple(dict.fromkeys((*case.tried, key_of(plan.solution, plan.request))))
    return case.model_copy(update={"flight": flight, "tried": tried, "attempts": plan.attempt, "cured_by": ""})


def _best(case: Case) -> Candidate | None:
    """The candidate most worth trying; None when doing nothing is worth more than any."""
    left = {key_of(c.solution, c.request): c for c in case.candidates}
    for key in case.tried:
        if key != case.cured_by:
            left.pop(key, None)
    choices = {key: _as_choice(key, candidate) for key, candidate in left.items()}
    proven = [key for key, c in left.items() if c.proven and choices[key].probability >= _PROVEN_FROM]
    best = rank_choices(choices[key] for key in proven or choices)[0]
    return None if best.solution == NOTHING else left[best.solution]


def _as_choice(key: str, candidate: Candidate) -> Choice:
    return Choice(
        solution=key,
        probability=posterior_mean(Tally(candidate.successes, candidate.trials)),
        cost=candidate.cost,
        risk=candidate.risk,
        blast_radius=1.0,
        reversible=candidate.reversible,
    )


def _reason(candidate: Candidate, attempt: int) -> str:
    if candidate.proven:
        known = f"known problem, solved {candidate.successes:g} of {candidate.trials:g} times by {candidate.solution}"
    elif candidate.trials:
        known = f"{candidate.solution} helped {candidate.successes:.1f} of {candidate.trials:.1f} times with similar problems"
    elif attempt == 1:
        known = f"nothing is known; {candidate.solution} is worth most for its cost and risk"
    else:
        known = f"the best of what has not been tried: {candidate.solution}"
    return f"{known} (cost {candidate.cost:g}, risk {candidate.risk:g})"
