"""Events become rows once, in whatever order and however often they come."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import pairwise

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.knowledge.connections import Pool, open_pool
from pipeline.knowledge.store import PostgresKnowledge
from pipeline.sinks.postgres import KnowledgeSink, UnstorableEventError
from tests.pipeline.knowledge.stores import empty, everything
from tests.pipeline.knowledge.telling import (
    PROVIDER,
    at,
    diagnosis,
    embed,
    event,
    experience,
    incident_events,
    incident_id,
    lesson_events,
    repair_events,
    whole_story,
)
from tests.pipeline.knowledge.wire import wire_to
from tests.polling import eventually
from topology.errors import RetryableError
from topology.event import Event, Payload
from topology.payloads import HeartbeatSeen

pytestmark = pytest.mark.servers

# Times that collide and cross: stories overlap, so that newest-wins has something to decide.
STORIES = [
    told
    for number, start in enumerate((0.0, 0.0, 3.0, 7.0))
    for told in whole_story(number, start, succeeded=number % 2 == 0)
] + repair_events(0, start=5.0)

FAMILIES: list[tuple[str, ...]] = [
    ("",),
    ("incident.",),
    ("problem.",),
    ("plan.", "approval."),
    ("action.",),
    ("outcome.",),
    ("experience.",),
    ("pattern.",),
]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Event[Payload]], list[list[Event[Payload]]]]:
    """Some events, and a delivery of them: shuffled, cut into batches, any of which may come again.

    Mostly of one family, so that they meet in the same rows.
    """
    family = draw(st.sampled_from(FAMILIES))
    of_these = [told for told in STORIES if told.event_type.startswith(family)]
    left_out = draw(st.sets(st.sampled_from(range(len(of_these))), max_size=len(of_these) - 1))
    events = [told for place, told in enumerate(of_these) if place not in left_out]
    arrived = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=8))))
    cuts = sorted(draw(st.sets(st.integers(1, len(arrived)), max_size=4)) | {0, len(arrived)})
    batches = [list(arrived[begin:end]) for begin, end in pairwise(cuts)]
    again = draw(st.lists(st.sampled_from(batches), max_size=2))
    return events, batches + again


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(delivered=deliveries())
async def test_any_delivery_of_the_same_events_ends_in_the_same_rows(
    pool: Pool, sink: KnowledgeSink, delivered: tuple[list[Event[Payload]], list[list[Event[Payload]]]]
) -> None:
    events, batches = delivered
    await empty(pool)
    await sink.write(sorted(events, key=lambda told: (told.timestamp, told.id)))
    expected = await everything(pool)

    await empty(pool)
    for batch in batches:
        await sink.write(batch)
    assert await everything(pool) == expected


async def test_an_older_update_does_not_overwrite_a_newer_one(
    sink: KnowledgeSink, knowledge: PostgresKnowledge
) -> None:
    opened, updated, resolved = incident_events()
    await sink.write([resolved])
    await sink.write([updated, opened])
    story = await knowledge.incident(incident_id(1))
    assert story is not None
    assert (story.incident.status, story.incident.resolved_at) == ("resolved", at(9))


async def test_of_events_at_one_time_the_later_step_of_the_incident_counts(
    sink: KnowledgeSink, knowledge: PostgresKnowledge
) -> None:
    for number in range(8):
        # Ids are as good as random, so with eight incidents both orders of ids occur.
        at_once = [event(told.payload, 5) for told in incident_events(number)]
        await sink.write(at_once[::-1])
        await sink.write(at_once)
    assert {line.status for line in await knowledge.incidents()} == {"resolved"}


async def test_an_action_that_finished_before_it_was_seen_to_start_has_both_times(
    pool: Pool, sink: KnowledgeSink
) -> None:
    started, finished = repair_events()[3:5]
    await sink.write([finished])
    await sink.write([started])
    (row,) = await pool.fetch("SELECT status, started_at, finished_at FROM actions")
    assert tuple(row) == ("succeeded", started.timestamp, finished.timestamp)


async def test_success_is_counted_from_experiences_and_not_added_up(pool: Pool, sink: KnowledgeSink) -> None:
    told = [event(experience(number, succeeded=number != 2), number) for number in range(4)]
    for _ in range(3):
        await sink.write(told)
        await sink.write(told[:2])
    (row,) = await pool.fetch(
        "SELECT from_id, to_id, successes, trials, weight FROM relations WHERE kind = 'SOLVED_BY'"
    )
    assert tuple(row) == ("fp:v1:crash", "restart", 3, 4, pytest.approx(4 / 6))


async def test_a_problem_counts_the_incidents_it_was_seen_in(pool: Pool, sink: KnowledgeSink) -> None:
    told = [event(diagnosis(number), 10 * number) for number in (3, 1, 2)] + [event(diagnosis(3), 35, tag="again")]
    await sink.write(told[:2])
    await sink.write(told)
    (row,) = await pool.fetch("SELECT times_seen, first_seen, last_seen FROM problems")
    assert tuple(row) == (3, at(10), at(35))


async def test_who_found_a_pattern_and_what_it_grew_from_is_remembered(pool: Pool, sink: KnowledgeSink) -> None:
    await sink.write(lesson_events(3))
    relations = {tuple(row) for row in await pool.fetch("SELECT from_id, kind, to_id FROM relations")}
    assert relations == {
        ("fp:v1:crash", "SOLVED_BY", "restart"),
        ("restart-loop-1", "DETECTS", "fp:v1:crash"),
        ("mine", "DISCOVERED", "restart-loop-1"),
        ("restart-loop-parent", "EVOLVES_INTO", "restart-loop-1"),
    }
    (pattern,) = await pool.fetch("SELECT stage, version, confidence, rule FROM patterns")
    assert tuple(pattern) == ("shadow", 4, 0.3, {"seq": ["exit", 3]})


async def test_events_that_are_no_knowledge_are_passed_over(pool: Pool, sink: KnowledgeSink) -> None:
    await sink.write([event(HeartbeatSeen(service="ledger", healthy=True), 0)])
    await sink.write([])
    assert not any((await everything(pool)).values())


async def test_nul_characters_from_a_log_are_stored_as_replacement_characters(pool: Pool, sink: KnowledgeSink) -> None:
    told = diagnosis(description="core\x00dumped", context={"li\x00ne": ["a\x00b", r"not \u0000 one"]})
    await sink.write([event(told, 0)])
    (row,) = await pool.fetch("SELECT description, context FROM problems")
    assert tuple(row) == ("core\ufffddumped", {"li\ufffdne": ["a\ufffdb", r"not \u0000 one"]})


async def test_an_event_that_cannot_be_stored_names_itself_and_spares_those_before_it(
    pool: Pool, sink: KnowledgeSink
) -> None:
    # Incompressible, and so longer than an index entry can be.
    endless = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(6000))
    bad = event(experience(2, problem=endless), 2)
    with pytest.raises(UnstorableEventError, match="dead letters") as refused:
        await sink.write([event(experience(1), 1), bad, event(experience(3), 3)])
    assert refused.value.event_id == bad.id
    assert await pool.fetchval("SELECT count(*) FROM experiences") == 1


async def test_four_writers_at_once_neither_deadlock_nor_lose_a_count(knowledge_url: str, pool: Pool) -> None:
    incidents = [told for number in range(40) for told in incident_events(number)]

    async def write(turn: int) -> None:
        far = await open_pool(knowledge_url)
        sink = KnowledgeSink(far, embed=embed, provider=PROVIDER)
        for step in range(10):
            # The same rows, in opposite orders; and one more experience for the same pair.
            await sink.write(incidents[:: 1 if turn % 2 else -1])
            await sink.write([event(experience(100 * turn + step), step)])
        await far.close()

    await asyncio.gather(*(write(turn) for turn in range(4)))
    row = await pool.fetchrow("SELECT successes, trials FROM relations WHERE kind = 'SOLVED_BY'")
    assert tuple(row or ()) == (40, 40)


async def test_a_backend_killed_in_the_middle_of_a_batch_leaves_nothing_half_written(
    knowledge_url: str, pool: Pool
) -> None:
    holder, writer_pool = await asyncpg.connect(knowledge_url), await open_pool(knowledge_url)
    sink = KnowledgeSink(writer_pool, embed=embed, provider=PROVIDER)
    # The batch writes incidents, diagnoses and plans, and then waits for this.
    await holder.execute("BEGIN; LOCK TABLE experiences IN ACCESS EXCLUSIVE MODE")
    writing = asyncio.create_task(sink.write(whole_story()))
    backend = await eventually(
        lambda: pool.fetchval("SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'experiences'::regclass"),
        saying="the writer waits for the table experiences",
    )
    os.kill(backend, signal.SIGKILL)
    with pytest.raises(RetryableError, match="write knowledge"):
        await writing
    holder.terminate()

    # Postgres takes a killed backend for a crash, drops everybody and recovers.
    async def is_back() -> bool:
        try:
            await sink.open()
        except RetryableError:
            return False
        return True

    await eventually(is_back, saying="Postgres has recovered")
    assert not any((await everything(pool)).values())

    await sink.write(whole_story())
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 1
    assert await pool.fetchval("SELECT trials FROM relations WHERE kind = 'SOLVED_BY'") == 1
    await writer_pool.close()


async def test_an_outage_is_worth_another_try_and_the_same_batch_then_succeeds(knowledge_url: str, pool: Pool) -> None:
    async with wire_to(knowledge_url) as wire:
        far = await open_pool(wire.url)
        sink = KnowledgeSink(far, embed=embed, provider=PROVIDER)
        await sink.open()
        await sink.write(incident_events())
        await wire.cut()
        with pytest.raises(RetryableError):
            await sink.write(whole_story())
        with pytest.raises(RetryableError):
            await sink.open()
        await wire.mend()
        await sink.write(whole_story())
        await sink.close()
        await far.close()
    assert await pool.fetchval("SELECT count(*) FROM experiences") == 1


async def test_a_postgres_that_does_not_answer_holds_a_batch_up_for_a_bounded_time(
    knowledge_url: str, pool: Pool
) -> None:
    async with wire_to(knowledge_url) as wire:
        far = await open_pool(wire.url)
        sink = KnowledgeSink(far, embed=embed, provider=PROVIDER, write_within_s=0.5)
        await sink.write(incident_events())
        wire.clog()
        async with asyncio.timeout(3):
            with pytest.raises(RetryableError):
                await sink.write(whole_story())
        wire.unclog()
        await sink.write(whole_story())
        await far.close()
    assert await pool.fetchval("SELECT trials FROM relations WHERE kind = 'SOLVED_BY'") == 1


async def test_a_batch_can_be_cancelled_while_postgres_does_not_answer(knowledge_url: str, pool: Pool) -> None:
    async with wire_to(knowledge_url) as wire:
        far = await open_pool(wire.url)
        sink = KnowledgeSink(far, embed=embed, provider=PROVIDER, write_within_s=0.5)
        await sink.write(incident_events())
        wire.clog()
        writing = asyncio.create_task(sink.write(whole_story()))
        await eventually(lambda: far.get_idle_size() == 0, saying="the batch has its connection")
        writing.cancel()
        done, _ = await asyncio.wait([writing], timeout=5)
        far.terminate()
    assert done
    assert not any(row for row in await pool.fetch("SELECT FROM experiences"))
