"""The knowledge: recall for the agents, stories for people."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from operator import itemgetter
from uuid import UUID

import asyncpg

from agents.ports import RecallProblem, Recollection, SolutionRecord
from pipeline.knowledge import queries
from pipeline.knowledge.connections import Connection, Pool, borrowed, without_nul
from pipeline.knowledge.story import (
    STORY_ORDER,
    IncidentNow,
    IncidentStatus,
    IncidentStory,
    IncidentSummary,
    KnowledgeCounts,
    Moment,
)
from pipeline.knowledge.vectors import TEXT_CHARS_MAX, Embed, Embedding
from tables.ranking import fuse_rankings
from topology.errors import RetryableError
from topology.payloads import ExperienceRecorded
from topology.payloads.diagnoses import SimilarProblem
from topology.registry import parse_payload

log = logging.getLogger(__name__)

SIMILAR_FROM = 0.6
"""The least cosine at which a problem counts as similar. With the hashed embedding, of pairs of log lines in the LogHub samples 93 %
of those with the same template reach it, and 4 % of those with different ones."""
SIMILARITY_OF_OTHERS_MAX = 0.999
"""Only the same fingerprint is the same problem; another one with the same words is very similar."""
CANDIDATES_PER_RANKING = 40
RECALL_WITHIN_S = 3.0
_RECOLLECTIONS_CACHED = 1024

_CacheKey = tuple[str, str, str]


class PostgresKnowledge:
    """Answers questions from Postgres; during an outage, recall answers from memory and says so.

    Args:
        pool: from `pipeline.knowledge.connections.open_pool`, borrowed: whoever opened it closes it.
        embed: a text as 1536 numbers; quick and local, for it runs in the event loop.
        provider: the id of `embed`; only vectors with the same id are searched.
        similar_from: the least cosine at which a problem counts as similar.
        recall_within_s: after this the store counts as away.

    Attributes:
        trouble: why recall answers from memory now; empty when it does not.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        embed: Embed,
        provider: str,
        similar_from: float = SIMILAR_FROM,
        recall_within_s: float = RECALL_WITHIN_S,
    ) -> None:
        self._pool = pool
        self._embedding = Embedding(embed, provider)
        self._similar_from = similar_from
        self._recall_within_s = recall_within_s
        self._cache: OrderedDict[_CacheKey, Recollection] = OrderedDict()
        self.trouble = ""

    async def recall(self, question: RecallProblem) -> Recollection:
        """What is known of this problem and of similar ones, with what was tried and how often it helped.

        The problem itself is found by its fingerprint. Others are found by words and by meaning; they count from
        `similar_from` on and their similarity is below 1. Experiences of the question's system and environment come before
        those of the system, and these before all others.

        An outage is no error: the last answer about this problem is given again, or an empty one, and `degraded` says why.

        Raises:
            ConfigurationError: the schema, the rights or the embedding provider are wrong.
        """
        key = (question.problem, question.system, question.environment)
        try:
            async with borrowed(self._pool, "recall a problem", within_s=self._recall_within_s) as connection:
                found = await self._recall_from(connection, question)
        except RetryableError as outage:
            if not self.trouble:
                log.warning("recall answers from memory: %s", outage)
            self.trouble = f"recall answers from memory: {outage}"
            return self._remembered(key, outage)
        self.trouble = ""
        self._cache[key] = found
        self._cache.move_to_end(key)
        if len(self._cache) > _RECOLLECTIONS_CACHED:
            self._cache.popitem(last=False)
        return found

    def _remembered(self, key: _CacheKey, outage: RetryableError) -> Recollection:
        cached = self._cache.get(key)
        if cached is None:
            return Recollection(degraded=f"{outage}; this problem was not asked about before, so nothing is recalled")
        return cached.model_copy(update={"degraded": f"{outage}; this is the last answer from before"})

    async def _recall_from(self, connection: Connection, question: RecallProblem) -> Recollection:
        problem = without_nul(question.problem)
        known = await connection.fetchval(queries.IS_KNOWN, problem)
        similar = await self._similar(connection, problem, question)
        similarity = {found.problem: found.similarity for found in similar} | {problem: 1.0}
        rows = await connection.fetch(
            queries.EXPERIENCES_BY_SOLUTION,
            list(similarity),
            without_nul(question.system),
            without_nul(question.environment),
        )
        records = [SolutionRecord(**row, similarity=similarity[row["problem"]]) for row in rows]
        records.sort(key=lambda record: -record.similarity)
        return Recollection(known=known, similar=similar, records=tuple(records))

    async def _similar(
        self, connection: Connection, problem: str, question: RecallProblem
    ) -> tuple[SimilarProblem, ...]:
        text = without_nul(question.text)[:TEXT_CHARS_MAX]
        vector = self._embedding.vector(text)
        if vector is None:
            return ()
        rows = await connection.fetch(
            queries.SIMILAR_PROBLEMS,
            vector,
            text,
            self._embedding.provider,
            problem,
            max(CANDIDATES_PER_RANKING, question.limit),
            self._similar_from,
        )
        found = {
            row["problem"]: SimilarProblem(
                problem=row["problem"],
                title=row["title"],
                similarity=min(max(row["similarity"], 0.0), SIMILARITY_OF_OTHERS_MAX),
            )
            for row in rows
        }
        best_first = fuse_rankings([_ranking(rows, "place_by_words"), _ranking(rows, "place_by_meaning")])
        return tuple(found[name] for name, _ in best_first[: question.limit])

    async def incidents(self, limit: int = 20, status: IncidentStatus | None = None) -> list[IncidentSummary]:
        """The newest incidents first; raises RetryableError when the store is away."""
        async with borrowed(self._pool, "list incidents") as connection:
            rows = await connection.fetch(queries.INCIDENTS, limit, status)
        return [IncidentSummary(**row) for row in rows]

    async def incident(self, incident: UUID) -> IncidentStory | None:
        """Everything that is stored about one incident; None when there is none of this id.

        Raises:
            RetryableError: the store is away.
            BadInputError: a row was written by a newer release.
        """
        async with (
            borrowed(self._pool, "read an incident") as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            now = await connection.fetchrow(queries.INCIDENT, incident)
            if now is None:
                return None
            said = await connection.fetch(queries.MOMENTS, incident)
            learned = await connection.fetch(queries.EXPERIENCES, incident)
        moments = [_moment(row) for row in said] + [_lesson(row) for row in learned]
        moments.sort(key=lambda moment: (moment.at, STORY_ORDER.index(type(moment.said))))
        return IncidentStory(incident=IncidentNow(**now), moments=tuple(moments))

    async def counts(self) -> KnowledgeCounts:
        """How much is known; raises RetryableError when the store is away."""
        async with borrowed(self._pool, "count the knowledge") as connection:
            rows = await connection.fetch(queries.COUNTS)
        return KnowledgeCounts(**rows[0])


def _ranking(rows: Sequence[asyncpg.Record], place: str) -> list[str]:
    """The problems of one ranking, best first. Those that are not similar enough are left out, and the others move up."""
    return [row["problem"] for row in sorted((row for row in rows if row[place] is not None), key=itemgetter(place))]


def _moment(row: asyncpg.Record) -> Moment:
    payload = parse_payload(row["event_type"], row["schema_version"], row["payload"])
    return Moment.model_validate({"at": row["at"], "said": payload})


def _lesson(row: asyncpg.Record) -> Moment:
    fields = dict(row)
    at = fields.pop("as_of")
    return Moment(at=at, said=ExperienceRecorded(**fields))
