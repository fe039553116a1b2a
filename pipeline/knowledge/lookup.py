"""Finding what a person means: incidents by the beginning of their id, plans that wait for somebody."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pipeline.knowledge.connections import Pool, borrowed, without_nul
from topology.payloads import PlanProposed
from topology.registry import parse_payload

_INCIDENTS_NAMED = "SELECT id FROM incidents WHERE starts_with(id::text, lower($1)) ORDER BY opened_at DESC LIMIT $2"

# A plan waits until it is answered or becomes an action; a later plan of its incident takes its place, and when the incident
# is over it is moot. $1 the beginning of an id.
_PLANS_WAITING = """
SELECT plans.as_of, plans.event, plans.schema_version, plans.payload
FROM plans LEFT JOIN incidents ON incidents.id = plans.incident
WHERE starts_with(plans.id::text, lower($1)) AND plans.autonomy NOT IN ('auto', 'observe')
    AND incidents.status IS DISTINCT FROM 'resolved'
    AND NOT EXISTS (SELECT FROM actions WHERE actions.plan = plans.id)
    AND NOT EXISTS (SELECT FROM approvals WHERE approvals.plan = plans.id)
    AND NOT EXISTS (
        SELECT FROM plans AS later
        WHERE later.incident = plans.incident AND (later.as_of, later.id) > (plans.as_of, plans.id)
    )
ORDER BY plans.as_of, plans.id
"""


class WaitingPlan(NamedTuple):
    """A plan that waits for an approval; ``event`` is the id of the event that proposed it."""

    plan: PlanProposed
    proposed_at: datetime
    event: UUID


async def incidents_named(pool: Pool, beginning: str, *, limit: int = 10) -> list[UUID]:
    """The incidents whose id begins so, newest first; raises RetryableError when the store is away."""
    async with borrowed(pool, "look for an incident") as connection:
        rows = await connection.fetch(_INCIDENTS_NAMED, without_nul(beginning), limit)
    return [UUID(bytes=row["id"].bytes) for row in rows]


async def waiting_plans(pool: Pool, beginning: str = "") -> list[WaitingPlan]:
    """The plans that wait and whose id begins so, oldest first; raises RetryableError when the store is away."""
    async with borrowed(pool, "look for waiting plans") as connection:
        rows = await connection.fetch(_PLANS_WAITING, without_nul(beginning))
    return [
        WaitingPlan(
            PlanProposed.model_validate(parse_payload("plan.proposed", row["schema_version"], row["payload"])),
            row["as_of"],
            UUID(bytes=row["event"].bytes),  # not the driver's own class, which no JSON writer knows
        )
        for row in rows
    ]
