"""What a person is told about incidents."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.knowledge.connections import open_pool
from pipeline.knowledge.store import PostgresKnowledge
from pipeline.sinks.postgres import KnowledgeSink
from tests.pipeline.knowledge.telling import (
    PROVIDER,
    embed,
    incident_events,
    incident_id,
    repair_events,
    whole_story,
)
from tests.pipeline.knowledge.wire import wire_to
from topology.errors import RetryableError

pytestmark = pytest.mark.servers


async def test_a_story_has_everything_in_the_order_in_which_it_happened(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await sink.write(list(reversed(whole_story(1) + whole_story(2, start=60))))
    story = await knowledge.incident(incident_id(1))
    assert story is not None
    assert story.incident.status == "resolved"
    assert story.incident.symptoms[0].cleared_at is not None
    assert [moment.said.event_type for moment in story.moments] == [
        "problem.diagnosed",
        "plan.proposed",
        "approval.given",
        "action.started",
        "action.finished",
        "outcome.verified",
        "experience.recorded",
    ]
    happened = [(event.timestamp, event.payload) for event in whole_story(1)]
    assert all((moment.at, moment.said) in happened for moment in story.moments)
    assert all(earlier.at <= later.at for earlier, later in pairwise(story.moments))
    assert story.diagnoses[0].candidates[0].solution == "restart"
    assert (len(story.plans), len(story.actions), len(story.outcomes), len(story.experiences)) == (1, 2, 1, 1)


async def test_of_an_incident_nobody_knows_there_is_no_story(knowledge: PostgresKnowledge) -> None:
    assert await knowledge.incident(incident_id(1)) is None


async def test_incidents_are_listed_newest_first_with_what_came_of_them(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await sink.write(whole_story(1) + whole_story(2, start=60, succeeded=False) + incident_events(3, start=120)[:1])
    listed = await knowledge.incidents()
    assert [line.incident for line in listed] == [incident_id(3), incident_id(2), incident_id(1)]
    assert [(line.status, line.problem, line.solution, line.attempts) for line in listed] == [
        ("open", "", "", 0),
        ("resolved", "fp:v1:crash", "", 1),
        ("resolved", "fp:v1:crash", "restart", 1),
    ]
    assert [line.incident for line in await knowledge.incidents(limit=1)] == [incident_id(3)]
    assert [line.incident for line in await knowledge.incidents(status="open")] == [incident_id(3)]


async def test_an_incident_that_is_being_repaired_can_be_told_so_far(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await sink.write(incident_events()[:1] + repair_events()[:4])
    story = await knowledge.incident(incident_id(1))
    assert story is not None
    assert story.incident.status == "open"
    assert [action.event_type for action in story.actions] == ["action.started"]


async def test_what_is_known_is_counted(knowledge: PostgresKnowledge, sink: KnowledgeSink) -> None:
    await sink.write(whole_story(1) + incident_events(2)[:1])
    counts = await knowledge.counts()
    assert (counts.incidents, counts.incidents_open, counts.problems, counts.experiences) == (2, 1, 1, 1)
    # SOLVED_BY, DETECTS, DISCOVERED.
    assert (counts.solutions, counts.patterns, counts.relations) == (1, 1, 3)


async def test_reading_while_postgres_is_away_is_worth_another_try(knowledge_url: str) -> None:
    async with wire_to(knowledge_url) as wire:
        await wire.cut()
        pool = await open_pool(wire.url)
        knowledge = PostgresKnowledge(pool, embed=embed, provider=PROVIDER)
        with pytest.raises(RetryableError, match="list incidents"):
            await knowledge.incidents()
        with pytest.raises(RetryableError, match="read an incident"):
            await knowledge.incident(incident_id(1))
        with pytest.raises(RetryableError, match="count the knowledge"):
            await knowledge.counts()
        await pool.close()
