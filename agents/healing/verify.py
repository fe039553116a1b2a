"""See whether a repair helped: the incident's symptoms must go, and stay away."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.event import Event
from topology.moments import SECOND_US, span_us
from topology.payloads.healing import ActionFinished, OutcomeVerified
from topology.payloads.incidents import IncidentOpened, IncidentResolved, IncidentUpdated
from topology.payloads.operation import TickPassed

Incident = IncidentOpened | IncidentUpdated | IncidentResolved
Input = ActionFinished | Incident | TickPassed

_CLOCK = "now"


class VerifyConfig(AgentConfig):
    """How patient verification is.

    Attributes:
        hold: the symptoms must be gone for so long without a break.
        window: they must have gone within this time after the action; holding may take longer.
        deaf_after: where ticks are missing for longer than this nobody was listening (the pipeline was stopped), and
            verification begins anew.
        remember_resolved: how long a resolved incident is remembered, for an action that finishes after its end.
    """

    hold: Duration = timedelta(seconds=4)
    window: Duration = timedelta(seconds=9)
    deaf_after: Duration = timedelta(seconds=5)
    remember_resolved: Duration = timedelta(minutes=10)


class Watch(BaseModel):
    """An action whose effect is being watched."""

    model_config = ConfigDict(frozen=True)

    finished: ActionFinished
    since_us: int


class Condition(BaseModel):
    """How an incident is now; ``calm_since_us`` is None while symptoms press."""

    model_config = ConfigDict(frozen=True)

    calm_since_us: int | None
    resolved_at_us: int | None = None


class Verify(Agent[Input, OutcomeVerified]):
    """Says once per repair whether it helped; an undo and what a guard refused have no outcome.

    Verified: no pressing symptom for ``hold``, begun within ``window`` after the action.  Rejected: the action failed, or
    symptoms press when ``window`` has passed.  Time is the latest that was heard of on its streams: the end of an action
    carries the time of its cause, and the executor may have needed long.

    Remembers: the actions being watched, and the condition of each incident.
    """

    Config = VerifyConfig

    watches = Keyed("watches", value=Watch)
    conditions = Keyed("conditions", value=Condition)
    clock = Keyed("clock", value=int)

    def process(self, event: Event[Input], world: World) -> Iterable[OutcomeVerified]:
        """The end of an action, news of an incident, or the passing of time in; an outcome out."""
        del world
        payload = event.payload
        now_us = max(event.at_us, self.clock.get(_CLOCK) or 0)
        if isinstance(payload, TickPassed):
            last_us = self.clock.get(_CLOCK)
            if last_us is not None and now_us - last_us > span_us(self.config.deaf_after):
                self._begin_anew(now_us)
            self.clock.put(_CLOCK, now_us)
            yield from self._judge_all(now_us)
        elif isinstance(payload, ActionFinished):
            if payload.undo_of is None and payload.status == "failed":
                yield _outcome(payload, "rejected", f"the action failed: {payload.detail}")
            elif payload.undo_of is None and payload.status == "succeeded":
                self.watches.put(str(payload.action), Watch(finished=payload, since_us=now_us))
        else:
            self._note(payload, event.at_us)

    def _note(self, incident: Incident, at_us: int) -> None:
        key = str(incident.incident)
        known = self.conditions.get(key)
        calm_since_us = None if known is None else known.calm_since_us
        if incident.pressing_symptoms:
            calm_since_us = None
        elif calm_since_us is None:
            calm_since_us = at_us
        resolved_at_us = at_us if isinstance(incident, IncidentResolved) else None
        self.conditions.put(key, Condition(calm_since_us=calm_since_us, resolved_at_us=resolved_at_us))

    def _begin_anew(self, now_us: int) -> None:
        for key, watch in self.watches.items():
            self.watches.put(key, watch.model_copy(update={"since_us": now_us}))
        for key, condition in self.conditions.items():
            if condition.calm_since_us is not None and condition.resolved_at_us is None:
                self.conditions.put(key, condition.model_copy(update={"calm_since_us": now_us}))

    def _judge_all(self, now_us: int) -> Iterable[OutcomeVerified]:
        for key, watch in self.watches.items():
            outcome = self._judge(watch, now_us)
            if outcome is not None:
                self.watches.delete(key)
                yield outcome
        oldest_us = now_us - span_us(self.config.remember_resolved)
        for key, condition in self.conditions.items():
            if condition.resolved_at_us is not None and condition.resolved_at_us < oldest_us:
                self.conditions.delete(key)

    def _judge(self, watch: Watch, now_us: int) -> OutcomeVerified | None:
        hold_us, window_us = span_us(self.config.hold), span_us(self.config.window)
        condition = self.conditions.get(str(watch.finished.incident))
        if condition is None or condition.calm_since_us is None:
            if now_us - watch.since_us < window_us:
                return None
            return _outcome(watch.finished, "rejected", f"symptoms were still there after {window_us / SECOND_US:g} s")
        held_us = now_us - max(condition.calm_since_us, watch.since_us)
        if held_us < hold_us:
            return None
        healthy_after_s = max(0, condition.calm_since_us - watch.since_us) / SECOND_US
        detail = f"healthy {healthy_after_s:.1f} s after the action, for {held_us / SECOND_US:.1f} s"
        outcome = _outcome(watch.finished, "verified", detail)
        return outcome.model_copy(update={"healthy_after_s": healthy_after_s, "held_for_s": held_us / SECOND_US})


def _outcome(finished: ActionFinished, verdict: str, detail: str) -> OutcomeVerified:
    return OutcomeVerified.model_validate(
        {
            "action": finished.action,
            "plan": finished.plan,
            "incident": finished.incident,
            "system": finished.system,
            "problem": finished.problem,
            "solution": finished.solution,
            "attempt": finished.attempt,
            "request": finished.request,
            "verdict": verdict,
            "recalled": finished.recalled,
            "detail": detail,
            "undo": finished.undo,
        }
    )
