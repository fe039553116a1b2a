"""Let a plan become an action, or refuse it: every guard a repair must pass before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from tables.keyed import Keyed
from topology.agent import Agent, AgentConfig, World
from topology.durations import Duration
from topology.event import Event
from topology.ids import derived_id
from topology.moments import span_us
from topology.payloads.healing import ActionFinished, ActionStarted, ApprovalGiven, PlanProposed

Input = PlanProposed | ApprovalGiven
Output = ActionStarted | ActionFinished

_HOUR_US = span_us(timedelta(hours=1))


class RemediateConfig(AgentConfig):
    """The limits of what is done.

    Attributes:
        cooldown: the same solution is not aimed at the same target again within this time.
        actions_per_hour: no system gets more repairs than this; undoing is always allowed.
        approval_expires: an approval that comes later than this after the plan is none.
    """

    cooldown: Duration = timedelta(seconds=5)
    actions_per_hour: int = Field(default=60, ge=1)
    approval_expires: Duration = timedelta(minutes=15)


class Waiting(BaseModel):
    """A plan that waits for an approval."""

    model_config = ConfigDict(frozen=True)

    plan: PlanProposed
    since_us: int


class Remediate(Agent[Input, Output]):
    """Starts what may be done, in this order: autonomy or approval, cooldown, rate.

    ``auto`` plans start by themselves; all others wait until somebody approves the digest of exactly their request.  A
    plan that is refused is finished with status ``refused``, and the guard's name is the first word of its detail.
    ``ActionStarted`` is on the stream before anything is done; the stage ``execute`` does it.  The action's id is
    derived from the plan, so a plan never becomes two actions.

    Remembers: plans that wait, when each solution was last aimed at each target, and the last hour's repairs.
    """

    Config = RemediateConfig

    waiting = Keyed("waiting", value=Waiting, keys_max=10_000)
    last_used = Keyed("last_used", value=int, keys_max=10_000)
    started = Keyed("started", value=tuple[int, ...])

    def process(self, event: Event[Input], world: World) -> Iterable[Output]:
        """A plan or an approval in; the start of an action, or its refusal, out."""
        del world
        now_us = event.at_us
        payload = event.payload
        if isinstance(payload, ApprovalGiven):
            waiting = self.waiting.get(str(payload.plan))
            if waiting is not None:
                self.waiting.delete(str(payload.plan))
                refusal = self._objection_to_approval(waiting, payload, now_us)
                yield self._begin(waiting.plan, now_us, refusal)
        elif payload.autonomy == "auto":
            yield self._begin(payload, now_us, "")
        else:
            self._wait(payload, now_us)

    def _wait(self, plan: PlanProposed, now_us: int) -> None:
        expired_us = now_us - span_us(self.config.approval_expires)
        for key, waiting in self.waiting.items():
            if waiting.plan.incident == plan.incident or waiting.since_us < expired_us:
                self.waiting.delete(key)
        self.waiting.put(str(plan.plan), Waiting(plan=plan, since_us=now_us))

    def _objection_to_approval(self, waiting: Waiting, approval: ApprovalGiven, now_us: int) -> str:
        if not approval.approved:
            return f"approval: denied by {approval.by}{': ' if approval.reason else ''}{approval.reason}"
        if approval.digest != waiting.plan.request.digest:
            return f"approval: {approval.by} approved another request than the one that is planned; look at it again"
        if now_us - waiting.since_us > span_us(self.config.approval_expires):
            return f"approval: it came after the plan had expired ({self.config.approval_expires})"
        return ""

    def _begin(self, plan: PlanProposed, now_us: int, refusal: str) -> Output:
        refusal = refusal or self._objection(plan, now_us)
        about = {
            "action": derived_id("action", plan.plan),
            "plan": plan.plan,
            "incident": plan.incident,
            "system": plan.system,
            "problem": plan.problem,
            "solution": plan.solution,
            "attempt": plan.attempt,
            "request": plan.request,
            "undo_of": plan.undo_of,
            "recalled": plan.recalled,
        }
        if refusal:
            return ActionFinished.model_validate({**about, "status": "refused", "detail": refusal})
        if plan.undo_of is None:
            self.last_used.put(_use_of(plan), now_us)
            self.started.put(plan.system, (*self._last_hour(plan.system, now_us), now_us))
        return ActionStarted.model_validate({**about, "digest": plan.request.digest})

    def _objection(self, plan: PlanProposed, now_us: int) -> str:
        if plan.undo_of is not None:
            return ""
        config: RemediateConfig = self.config
        last_us = self.last_used.get(_use_of(plan))
        if last_us is not None and now_us - last_us < span_us(config.cooldown):
            ago_s = (now_us - last_us) / 1e6
            return f"cooldown: {plan.solution} was aimed at {plan.request.target} {ago_s:.1f} s ago"
        done = len(self._last_hour(plan.system, now_us))
        if done >= config.actions_per_hour:
            return f"rate: {plan.system} had {done} repairs in the last hour, allowed are {config.actions_per_hour}"
        return ""

    def _last_hour(self, system: str, now_us: int) -> tuple[int, ...]:
        return tuple(at_us for at_us in self.started.get(system) or () if at_us > now_us - _HOUR_US)


def _use_of(plan: PlanProposed) -> str:
    return f"{plan.solution} > {plan.request.target}"
