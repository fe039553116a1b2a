"""``aiops approve`` and ``aiops deny``: a person's word on a plan that waits for it."""

from __future__ import annotations

import asyncio
import os
import pwd
from datetime import UTC, datetime

import click

from pipeline.commands.output import fit, print_json
from pipeline.commands.reach import has_knowledge, reached_database, reached_mesh
from pipeline.engine.publisher import Publisher
from pipeline.knowledge.lookup import WaitingPlan, waiting_plans
from pipeline.loading import load_topology
from pipeline.settings import Settings, settings
from topology.errors import BadInputError
from topology.event import Event
from topology.ids import derived_id
from topology.payloads import ApprovalGiven

_STREAM = "plans"
_ID_SHOWN = 8
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class NoSuchPlanError(BadInputError):
    """No plan that waits, or more than one, has an id that begins as asked."""


@click.command()
@click.argument("plan", required=False)
@click.option("--reason", default="", help="Why, for the record.")
@_JSON
def approve(plan: str | None, reason: str, as_json: bool) -> None:
    """Allow exactly what PLAN (its id, or the beginning of it) asks for; without PLAN, list the plans that wait.

    The approval is for this one request, and once: it counts for nothing else, and nothing after it has expired.
    """
    if plan is not None:
        _answer(plan, approved=True, reason=reason, as_json=as_json)
        return
    waiting = asyncio.run(_waiting(settings(), ""))
    if as_json:
        print_json([_as_json(each) for each in waiting])
        return
    if not waiting:
        click.echo("no plan waits for an approval")
    for each in waiting:
        click.echo(fit(_line(each)))


@click.command()
@click.argument("plan")
@click.option("--reason", default="", help="Why, for the record and for whoever proposed it.")
@_JSON
def deny(plan: str, reason: str, as_json: bool) -> None:
    """Forbid PLAN (its id, or the beginning of it); the loop goes on with what else it can think of."""
    _answer(plan, approved=False, reason=reason, as_json=as_json)


def _answer(beginning: str, *, approved: bool, reason: str, as_json: bool) -> None:
    waiting = asyncio.run(_publish(settings(), beginning, approved=approved, reason=reason))
    request = waiting.plan.request
    if as_json:
        print_json({**_as_json(waiting), "approved": approved})
        return
    done = "approved" if approved else "denied"
    click.echo(f"{done}: {request.operation} {request.target} (plan {waiting.plan.plan})")
    click.echo(f"`aiops incidents show {str(waiting.plan.incident)[:_ID_SHOWN]}` tells what becomes of it")


async def _publish(chosen: Settings, beginning: str, *, approved: bool, reason: str) -> WaitingPlan:
    waiting = _only(await _waiting(chosen, beginning), beginning)
    plan, by = waiting.plan, _user()
    answer = ApprovalGiven(
        plan=plan.plan, system=plan.system, digest=plan.request.digest, approved=approved, by=by, reason=reason
    )
    event = Event(
        # The same word of the same person on the same request is one event, however often it is given.
        id=derived_id("approval", plan.plan, answer.digest, str(approved), by),
        timestamp=datetime.now(UTC),
        source="command",
        payload=answer,
        causation_id=waiting.event,
    )
    async with reached_mesh(chosen) as mesh:
        await Publisher(mesh, load_topology().streams[_STREAM])([event])
    return waiting


async def _waiting(chosen: Settings, beginning: str) -> list[WaitingPlan]:
    if not has_knowledge(chosen):
        return []
    async with reached_database(chosen) as pool:
        return await waiting_plans(pool, beginning)


def _only(found: list[WaitingPlan], beginning: str) -> WaitingPlan:
    if len(found) == 1:
        return found[0]
    if found:
        msg = (
            f"found several: {', '.join(str(each.plan.plan) for each in found)}; give more of the id than {beginning!r}"
        )
    else:
        msg = (
            f"found no waiting plan whose id begins with {beginning!r}: it may be answered, replaced by a later one, or its "
            "incident may be over; `aiops approve` lists those that wait"
        )
    raise NoSuchPlanError(msg)


def _user() -> str:
    """Who says so: the account the command runs as."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _line(waiting: WaitingPlan) -> str:
    plan = waiting.plan
    what = f"{plan.request.operation} {plan.request.target}"
    at = f"{waiting.proposed_at.astimezone():%m-%d %H:%M:%S}"
    return f"{str(plan.plan)[:_ID_SHOWN]}  {at}  {plan.system}: {what} by {plan.request.executor}: {plan.reason}"


def _as_json(waiting: WaitingPlan) -> dict[str, object]:
    plan = waiting.plan
    return {
        "plan": str(plan.plan),
        "incident": str(plan.incident),
        "system": plan.system,
        "solution": plan.solution,
        "request": plan.request.model_dump(mode="json"),
        "digest": plan.request.digest,
        "proposed_at": waiting.proposed_at,
        "reason": plan.reason,
    }
