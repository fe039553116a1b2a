"""The statements that read knowledge."""

from __future__ import annotations

# $1 the asked problem's fingerprint.
IS_KNOWN = """
SELECT EXISTS (SELECT FROM problems WHERE fingerprint = $1)
    OR EXISTS (SELECT FROM experiences WHERE problem = $1)
"""

# The problems nearest to a question by words and by meaning, with their places in the two rankings; NULL when not among the first.
# MATERIALIZED, or a cached plan would take the text apart again for every row.
# Similarity is the cosine of the full vectors; the index is over half-precision ones and only proposes.
# $1 vector, $2 text, $3 provider, $4 the asked problem's fingerprint (itself left out), $5 candidates per ranking,
# $6 least similarity.
SIMILAR_PROBLEMS = """
WITH asked AS MATERIALIZED (
    SELECT replace(plainto_tsquery('english', search_words($2))::text, '&', '|')::tsquery AS words
),
by_words AS (
    SELECT fingerprint, row_number() OVER (ORDER BY ts_rank(tsv, words, 1) DESC, fingerprint) AS place
    FROM problems, asked
    WHERE tsv @@ words AND embedding_provider = $3 AND fingerprint <> $4
    ORDER BY place LIMIT $5
),
by_meaning AS (
    SELECT fingerprint, row_number() OVER (ORDER BY distance, fingerprint) AS place
    FROM (
        SELECT fingerprint, embedding::halfvec(1536) <=> $1::vector(1536)::halfvec(1536) AS distance
        FROM problems
        WHERE embedding_provider = $3 AND fingerprint <> $4 AND embedding IS NOT NULL
        ORDER BY distance LIMIT $5
    ) AS nearest
)
SELECT problem, title, similarity, place_by_words, place_by_meaning
FROM (
    SELECT problems.fingerprint AS problem, title, 1 - (embedding <=> $1::vector(1536)) AS similarity,
        by_words.place AS place_by_words, by_meaning.place AS place_by_meaning
    FROM by_words FULL JOIN by_meaning USING (fingerprint) JOIN problems USING (fingerprint)
    WHERE embedding IS NOT NULL
) AS candidates
WHERE similarity >= $6
"""

# Experiences by what was tried on which target. Those made in the same system and environment count; where there are none, those of
# the same system; where there are none either, all.
# $1 fingerprints, $2 system, $3 environment.
EXPERIENCES_BY_SOLUTION = """
SELECT problem, solution, target,
    CASE WHEN here > 0 THEN here WHEN system > 0 THEN system ELSE everywhere END AS trials,
    CASE WHEN here > 0 THEN helped_here WHEN system > 0 THEN helped_system ELSE helped_everywhere END AS successes
FROM (
    SELECT problem, solution, target,
        count(*) FILTER (WHERE system = $2 AND environment = $3) AS here,
        count(*) FILTER (WHERE system = $2 AND environment = $3 AND succeeded) AS helped_here,
        count(*) FILTER (WHERE system = $2) AS system,
        count(*) FILTER (WHERE system = $2 AND succeeded) AS helped_system,
        count(*) AS everywhere,
        count(*) FILTER (WHERE succeeded) AS helped_everywhere
    FROM experiences WHERE problem = ANY($1::text[])
    GROUP BY problem, solution, target
) AS tried
ORDER BY problem, solution, target
"""

# $1 how many at most, $2 the status or NULL for all.
INCIDENTS = """
SELECT id AS incident, system, title, severity, status, opened_at, resolved_at,
    coalesce((
        SELECT problem FROM diagnoses WHERE incident = incidents.id ORDER BY as_of DESC, event DESC LIMIT 1
    ), '') AS problem,
    coalesce((
        SELECT solution FROM outcomes WHERE incident = incidents.id AND verdict = 'verified'
        ORDER BY as_of DESC, event DESC LIMIT 1
    ), '') AS solution,
    (
        SELECT count(*) FROM actions JOIN plans ON plans.id = actions.plan
        WHERE actions.incident = incidents.id AND plans.undo_of IS NULL AND actions.status <> 'refused'
    ) AS attempts
FROM incidents
WHERE $2::text IS NULL OR status = $2
ORDER BY opened_at DESC, id
LIMIT $1
"""

# $1 the incident's id.
INCIDENT = """
SELECT id AS incident, system, title, severity, status, opened_at, resolved_at, symptoms, changes, why
FROM incidents WHERE id = $1
"""

# What was said about an incident, each with the name and version of its event type. $1 the incident's id.
MOMENTS = """
SELECT as_of AS at, 'problem.diagnosed' AS event_type, schema_version, payload FROM diagnoses WHERE incident = $1
UNION ALL
SELECT as_of, 'plan.proposed', schema_version, payload FROM plans WHERE incident = $1
UNION ALL
SELECT approvals.as_of, 'approval.given', approvals.schema_version, approvals.payload
FROM approvals JOIN plans ON plans.id = approvals.plan WHERE plans.incident = $1
UNION ALL
SELECT started_at, 'action.started', started_version, started FROM actions WHERE incident = $1 AND started IS NOT NULL
UNION ALL
SELECT finished_at, 'action.finished', finished_version, finished
FROM actions WHERE incident = $1 AND finished IS NOT NULL
UNION ALL
SELECT as_of, 'outcome.verified', schema_version, payload FROM outcomes WHERE incident = $1
"""

# $1 the incident's id.
EXPERIENCES = """
SELECT id AS experience, incident, system, problem, solution, target, environment, request, succeeded, attempt, recovery_s,
    detail, as_of
FROM experiences WHERE incident = $1
"""

COUNTS = """
SELECT
    (SELECT count(*) FROM incidents) AS incidents,
    (SELECT count(*) FROM incidents WHERE status = 'open') AS incidents_open,
    (SELECT count(*) FROM problems) AS problems,
    (SELECT count(*) FROM solutions) AS solutions,
    (SELECT count(*) FROM patterns) AS patterns,
    (SELECT count(*) FROM experiences) AS experiences,
    (SELECT count(*) FROM relations) AS relations
"""
