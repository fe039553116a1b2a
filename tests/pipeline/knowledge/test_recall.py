"""What is recalled of a problem, and what becomes of it while Postgres is away."""

from __future__ import annotations

import asyncio

import pytest

from agents.ports import RecallProblem
from pipeline.knowledge.connections import Pool, open_pool
from pipeline.knowledge.store import SIMILAR_FROM, PostgresKnowledge
from pipeline.sinks.postgres import KnowledgeSink
from tests.pipeline.knowledge.telling import PROVIDER, diagnosis, embed, event, experience, whole_story
from tests.pipeline.knowledge.wire import wire_to
from topology.errors import ConfigurationError
from topology.event import Payload
from topology.payloads import ProblemDiagnosed

pytestmark = pytest.mark.servers

CRASH_TEXT = "ledger refuses connections\nthe health probe of ledger is refused after exit status 139"


def question(problem: str = "fp:v1:crash", text: str = CRASH_TEXT, **fields: object) -> RecallProblem:
    return RecallProblem.model_validate({"problem": problem, "text": text, "system": "shop"} | fields)


def described(problem: str, title: str, description: str = "") -> ProblemDiagnosed:
    return diagnosis(problem=problem, title=title, description=description, error_patterns=())


async def store(sink: KnowledgeSink, *payloads: Payload) -> None:
    await sink.write([event(payload, seconds) for seconds, payload in enumerate(payloads)])


async def test_of_what_was_never_met_nothing_is_recalled(knowledge: PostgresKnowledge) -> None:
    found = await knowledge.recall(question())
    assert not found.known
    assert found.similar == ()
    assert found.records == ()
    assert found.degraded == ""


async def test_a_problem_met_before_is_known_with_what_was_tried(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await store(sink, diagnosis(), experience(1), experience(2), experience(3, succeeded=False))
    await store(sink, experience(4, solution="rollback", succeeded=False, target="ledger-store"))
    found = await knowledge.recall(question())
    assert found.known
    told = [(r.solution, r.target, r.successes, r.trials, r.similarity) for r in found.records]
    assert told == [("restart", "ledger", 2, 3, 1.0), ("rollback", "ledger-store", 0, 1, 1.0)]


async def test_an_experience_alone_makes_a_problem_known(knowledge: PostgresKnowledge, sink: KnowledgeSink) -> None:
    await store(sink, experience(1))
    assert (await knowledge.recall(question())).known


async def test_a_problem_in_other_words_is_similar_and_lends_its_experience(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await store(
        sink,
        described("fp:v1:pool", "connection pool of checkout exhausted", "no free connection within 5 s"),
        described("fp:v1:disk", "disk of archive is full", "no space left on device"),
        experience(1, problem="fp:v1:pool", solution="raise-limit"),
        experience(2, problem="fp:v1:disk", solution="rotate-logs"),
    )
    found = await knowledge.recall(question("fp:v1:new", "ConnectionPool of payment exhausted: no free connection"))
    assert not found.known
    assert [similar.problem for similar in found.similar] == ["fp:v1:pool"]
    assert SIMILAR_FROM <= found.similar[0].similarity < 1
    assert [(record.solution, record.similarity) for record in found.records] == [
        ("raise-limit", found.similar[0].similarity)
    ]


async def test_another_problem_with_the_very_same_words_stays_below_one(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await store(sink, described("fp:v1:twin", "ledger hangs"))
    found = await knowledge.recall(question("fp:v1:new", "ledger hangs"))
    assert 0.99 < found.similar[0].similarity < 1


async def test_a_known_problem_comes_before_similar_ones(knowledge: PostgresKnowledge, sink: KnowledgeSink) -> None:
    await store(sink, described("fp:v1:a", "ledger hangs"), described("fp:v1:b", "ledger hangs again"))
    await store(sink, experience(1, problem="fp:v1:a"), experience(2, problem="fp:v1:b"))
    found = await knowledge.recall(question("fp:v1:b", "ledger hangs again"))
    assert [record.problem for record in found.records] == ["fp:v1:b", "fp:v1:a"]
    assert [similar.problem for similar in found.similar] == ["fp:v1:a"]


async def test_no_more_similar_problems_than_asked_for(knowledge: PostgresKnowledge, sink: KnowledgeSink) -> None:
    await store(sink, *(described(f"fp:v1:{number}", f"ledger hangs ({number})") for number in range(8)))
    assert len((await knowledge.recall(question("fp:v1:new", "ledger hangs", limit=3))).similar) == 3


async def test_vectors_of_two_providers_are_never_compared(pool: Pool, knowledge: PostgresKnowledge) -> None:
    other = KnowledgeSink(pool, embed=embed, provider="another:v1")
    await store(other, described("fp:v1:twin", "ledger hangs"))
    found = await knowledge.recall(question("fp:v1:new", "ledger hangs"))
    assert found.similar == ()
    assert (await knowledge.recall(question("fp:v1:twin", "ledger hangs"))).known


async def test_experience_of_the_same_place_counts_before_that_of_others(
    knowledge: PostgresKnowledge, sink: KnowledgeSink
) -> None:
    await store(
        sink,
        experience(1, environment="production"),
        experience(2, environment="staging", succeeded=False),
        experience(3, environment="staging", succeeded=False),
        experience(4, system="warehouse", succeeded=False),
    )
    for environment, expected in (("production", (1, 1)), ("staging", (0, 2)), ("elsewhere", (1, 3))):
        (record,) = (await knowledge.recall(question(environment=environment))).records
        assert (record.successes, record.trials) == expected
    (record,) = (await knowledge.recall(question(system="bakery"))).records
    assert (record.successes, record.trials) == (1, 4)


@pytest.mark.parametrize(
    "text",
    ["", "...", "the and of", "a & b | !c <-> :*", "'; DROP TABLE problems; --", "nul \x00 inside", "word " * 100_000],
)
async def test_whatever_the_text_says_is_searched_for_and_not_obeyed(
    knowledge: PostgresKnowledge, sink: KnowledgeSink, text: str
) -> None:
    await store(sink, diagnosis())
    found = await knowledge.recall(question(text=text))
    assert found.known
    assert found.degraded == ""


async def test_a_text_without_any_meaning_to_the_provider_resembles_nothing(pool: Pool, sink: KnowledgeSink) -> None:
    await store(sink, diagnosis())
    blind = PostgresKnowledge(pool, embed=lambda _: [0.0] * 1536, provider=PROVIDER)
    assert (await blind.recall(question("fp:v1:new"))).similar == ()


async def test_a_provider_with_other_dimensions_is_a_matter_of_configuration(pool: Pool) -> None:
    short = PostgresKnowledge(pool, embed=lambda _: [1.0] * 384, provider="short:v1")
    with pytest.raises(ConfigurationError, match="found 384 numbers"):
        await short.recall(question())


async def test_while_postgres_is_away_the_last_answer_is_given_and_marked(knowledge_url: str, pool: Pool) -> None:
    direct = KnowledgeSink(pool, embed=embed, provider=PROVIDER)
    await direct.write(whole_story())
    async with wire_to(knowledge_url) as wire:
        far_pool = await open_pool(wire.url)
        knowledge = PostgresKnowledge(far_pool, embed=embed, provider=PROVIDER)
        before = await knowledge.recall(question())
        assert before.known

        await wire.cut()
        during = await knowledge.recall(question())
        assert "last answer" in during.degraded
        assert during.model_copy(update={"degraded": ""}) == before

        unheard = await knowledge.recall(question("fp:v1:new"))
        assert (unheard.known, unheard.records) == (False, ())
        assert "nothing is recalled" in unheard.degraded

        await wire.mend()
        assert await knowledge.recall(question()) == before
        await far_pool.close()


async def test_a_postgres_that_does_not_answer_holds_recall_up_for_a_bounded_time(
    knowledge_url: str, sink: KnowledgeSink
) -> None:
    await sink.write(whole_story())
    async with wire_to(knowledge_url) as wire:
        pool = await open_pool(wire.url)
        knowledge = PostgresKnowledge(pool, embed=embed, provider=PROVIDER, recall_within_s=0.3)
        before = await knowledge.recall(question())
        wire.clog()
        async with asyncio.timeout(2):
            during = await knowledge.recall(question())
        assert "last answer" in during.degraded
        wire.unclog()
        assert await knowledge.recall(question()) == before
        await pool.close()


async def test_recall_starts_without_postgres_and_finds_it_when_it_comes(
    knowledge_url: str, sink: KnowledgeSink
) -> None:
    await sink.write(whole_story())
    async with wire_to(knowledge_url) as wire:
        await wire.cut()
        pool = await open_pool(wire.url)
        knowledge = PostgresKnowledge(pool, embed=embed, provider=PROVIDER)
        assert (await knowledge.recall(question())).degraded
        await wire.mend()
        found = await knowledge.recall(question())
        assert found.known
        assert not found.degraded
        await pool.close()
