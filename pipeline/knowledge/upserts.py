"""The statements that write knowledge, in the order in which a batch runs them.

Every one gives the same rows however often and in whatever order it is run: of two events about one row the later counts
(`as_of`, and between equal times the event's id), the two halves of an action or a pattern touch different columns, and what
counts events is computed from stored rows, never added to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.knowledge.connections import without_nul

Row = tuple[Any, ...]

# A batch takes this lock first, so that writers follow one another: what is derived below is derived from everything committed,
# and two batches with the same rows in another order cannot deadlock. Knowledge is rare; telemetry never comes here.
WRITERS_LOCK = 0x41494F50534B4E4F
TAKE_WRITERS_LOCK = "SELECT pg_advisory_xact_lock($1)"


@dataclass(frozen=True, slots=True)
class Upsert:
    """A statement and the columns its parameters fill, in order; `fixed` says what happens to a row that is there already."""

    table: str
    columns: tuple[str, ...]
    on_conflict: str

    @property
    def sql(self) -> str:
        """The statement, made of the constants in this module only."""
        names = ", ".join(self.columns)
        values = ", ".join(f"${place}" for place in range(1, len(self.columns) + 1))
        return f"INSERT INTO {self.table} ({names}) VALUES ({values}) {self.on_conflict}"  # noqa: S608

    def row(self, **values: object) -> Row:
        """The parameters in the statement's order; a missing or unknown column is a programming error."""
        if values.keys() != set(self.columns):
            msg = f"{self.table}: found columns {sorted(values)}, expected {sorted(self.columns)}"
            raise TypeError(msg)
        return tuple(_storable(values[column]) for column in self.columns)


def _storable(value: object) -> object:
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, tuple):
        return [_storable(item) for item in value]
    return value


def _newest_wins(table: str, *, key: str, columns: str, age: str = "as_of, event") -> Upsert:
    """A row is replaced as a whole by a newer one; `age` names the columns that are compared."""
    names = (key, *columns.split())
    replaced = ", ".join(f"{name} = excluded.{name}" for name in names if name != key)
    mine = ", ".join(f"{table}.{name}" for name in age.split(", "))
    theirs = ", ".join(f"excluded.{name}" for name in age.split(", "))
    rule = f"ON CONFLICT ({key}) DO UPDATE SET {replaced} WHERE ({mine}) < ({theirs})"
    return Upsert(table, names, rule)


def _one_per_event(table: str, *, columns: str) -> Upsert:
    return Upsert(table, ("event", *columns.split()), "ON CONFLICT (event) DO NOTHING")


# --- what happened ----------------------------------------------------------------------------------------------------

INCIDENTS = _newest_wins(
    "incidents",
    key="id",
    columns="system title severity status opened_at resolved_at symptoms changes why as_of step event",
    age="as_of, step, event",
)
DIAGNOSES = _one_per_event("diagnoses", columns="incident system service problem recalled as_of schema_version payload")
PLANS = _newest_wins(
    "plans",
    key="id",
    columns=(
        "incident system problem solution target attempt autonomy digest undo_of as_of event schema_version payload"
    ),
)
APPROVALS = _one_per_event("approvals", columns="plan digest approved decided_by as_of schema_version payload")

_ACTION = ("id", "plan", "incident", "system", "problem", "solution", "target")


def _half_of_action(half: str) -> Upsert:
    """The begin or the end of an action; what both say of the action is the same and stays as it came first."""
    columns = (f"{half}_at", f"{half}_event", f"{half}_version", half)
    replaced = ", ".join(f"{name} = excluded.{name}" for name in columns)
    rule = (
        f"ON CONFLICT (id) DO UPDATE SET {replaced} WHERE actions.{half}_at IS NULL "
        f"OR (actions.{half}_at, actions.{half}_event) < (excluded.{half}_at, excluded.{half}_event)"
    )
    return Upsert("actions", (*_ACTION, *columns), rule)


ACTIONS_STARTED = _half_of_action("started")
ACTIONS_FINISHED = _half_of_action("finished")
OUTCOMES = _newest_wins(
    "outcomes",
    key="action",
    columns="plan incident system problem solution verdict as_of event schema_version payload",
)

# --- what is known ----------------------------------------------------------------------------------------------------

# The vector stays the same bytes while the text does, so that a problem met again costs no work in the vector index.
PROBLEMS = Upsert(
    "problems",
    (
        *("fingerprint", "system", "service", "title", "description", "error_patterns", "context", "severity"),
        *("search_text", "embedding", "embedding_provider", "first_seen", "last_seen", "times_seen", "as_of", "event"),
    ),
    """ON CONFLICT (fingerprint) DO UPDATE SET
        system = excluded.system, service = excluded.service, title = excluded.title, description = excluded.description,
        error_patterns = excluded.error_patterns, context = excluded.context, severity = excluded.severity,
        search_text = excluded.search_text, embedding_provider = excluded.embedding_provider,
        embedding = CASE
            WHEN problems.search_text = excluded.search_text
                AND problems.embedding_provider = excluded.embedding_provider
            THEN problems.embedding ELSE excluded.embedding END,
        as_of = excluded.as_of, event = excluded.event
    WHERE (problems.as_of, problems.event) < (excluded.as_of, excluded.event)""",
)
SOLUTIONS = _newest_wins("solutions", key="id", columns="title steps cost risk reversible as_of event")
SOLUTION_REVISIONS = _one_per_event(
    "solution_revisions", columns="solution problem system successes trials advice as_of"
)
PATTERNS_PROPOSED = Upsert(
    "patterns",
    ("id", "system", "rule", "problem", "parent", "confidence", "proposed_at", "proposed_event"),
    """ON CONFLICT (id) DO UPDATE SET
        rule = excluded.rule, problem = excluded.problem, parent = excluded.parent, confidence = excluded.confidence,
        proposed_at = excluded.proposed_at, proposed_event = excluded.proposed_event
    WHERE patterns.proposed_at IS NULL
        OR (patterns.proposed_at, patterns.proposed_event) < (excluded.proposed_at, excluded.proposed_event)""",
)
PATTERNS_PROMOTED = Upsert(
    "patterns",
    ("id", "system", "stage", "version", "precision", "promoted_at", "promoted_event"),
    """ON CONFLICT (id) DO UPDATE SET
        stage = excluded.stage, version = excluded.version, precision = excluded.precision,
        promoted_at = excluded.promoted_at, promoted_event = excluded.promoted_event
    WHERE patterns.promoted_at IS NULL
        OR (patterns.promoted_at, patterns.promoted_event) < (excluded.promoted_at, excluded.promoted_event)""",
)
PATTERN_PROMOTIONS = _one_per_event("pattern_promotions", columns="pattern system version stage precision as_of")
EXPERIENCES = _newest_wins(
    "experiences",
    key="id",
    columns=(
        "incident system environment problem solution target request succeeded attempt recovery_s detail as_of event"
    ),
)
AGENTS = Upsert(
    "agents",
    ("id", "first_seen", "last_seen"),
    """ON CONFLICT (id) DO UPDATE SET
        first_seen = least(agents.first_seen, excluded.first_seen),
        last_seen = greatest(agents.last_seen, excluded.last_seen)
    WHERE excluded.first_seen < agents.first_seen OR excluded.last_seen > agents.last_seen""",
)
RELATIONS = Upsert(
    "relations",
    ("kind", "from_kind", "from_id", "to_kind", "to_id", "weight", "as_of", "event"),
    """ON CONFLICT (kind, from_kind, from_id, to_kind, to_id) DO UPDATE SET
        weight = excluded.weight, as_of = excluded.as_of, event = excluded.event
    WHERE (relations.as_of, relations.event) < (excluded.as_of, excluded.event)""",
)

IN_ORDER = (
    *(INCIDENTS, DIAGNOSES, PLANS, APPROVALS, ACTIONS_STARTED, ACTIONS_FINISHED, OUTCOMES),
    *(PROBLEMS, SOLUTIONS, SOLUTION_REVISIONS, PATTERNS_PROPOSED, PATTERNS_PROMOTED, PATTERN_PROMOTIONS),
    *(EXPERIENCES, AGENTS, RELATIONS),
)

# --- what is derived --------------------------------------------------------------------------------------------------

COUNT_SIGHTINGS = """
UPDATE problems
SET first_seen = seen.first_seen, last_seen = seen.last_seen, times_seen = seen.times_seen
FROM (
    SELECT problem, min(as_of) AS first_seen, max(as_of) AS last_seen, count(DISTINCT incident) AS times_seen
    FROM diagnoses WHERE problem = ANY($1::text[]) GROUP BY problem
) AS seen
WHERE problems.fingerprint = seen.problem
    AND (problems.first_seen, problems.last_seen, problems.times_seen)
        IS DISTINCT FROM (seen.first_seen, seen.last_seen, seen.times_seen::integer)
"""

COUNT_SUCCESSES = """
INSERT INTO relations (kind, from_kind, from_id, to_kind, to_id, weight, successes, trials, as_of)
SELECT 'SOLVED_BY', 'problem', problem, 'solution', solution,
    (count(*) FILTER (WHERE succeeded) + 1)::double precision / (count(*) + 2),
    count(*) FILTER (WHERE succeeded), count(*), max(as_of)
FROM experiences WHERE problem = ANY($1::text[]) GROUP BY problem, solution
ON CONFLICT (kind, from_kind, from_id, to_kind, to_id) DO UPDATE SET
    weight = excluded.weight, successes = excluded.successes, trials = excluded.trials, as_of = excluded.as_of
WHERE (relations.successes, relations.trials, relations.as_of)
    IS DISTINCT FROM (excluded.successes, excluded.trials, excluded.as_of)
"""
