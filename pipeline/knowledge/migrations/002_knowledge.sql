-- What is known: what was learned from incidents, and how it hangs together.
--
--   problems            by fingerprint, as last diagnosed; first_seen, last_seen and times_seen (incidents) are derived from diagnoses
--   solutions           what can be done, as the candidates of the newest diagnosis describe it (steps as tables.knowledge.Step);
--                       how often it helped is not here but in the relation SOLVED_BY
--   solution_revisions  the history of advice about a solution for a problem, one row per event
--   patterns            what announces or is a problem; the proposal and the promotion come from two events, in either order
--   pattern_promotions  the history of a pattern's life, one row per event
--   experiences         what was tried and what came of it: one per action, never changed; success rates are counted from these
--   agents              who has contributed knowledge, and when
--   relations           (from) -kind-> (to):
--                         problem  SOLVED_BY    solution      successes of trials, counted from experiences;
--                                                             weight = (successes + 1) / (trials + 2), the posterior mean
--                         solution REQUIRES     prerequisite
--                         pattern  DETECTS      problem       weight = the pattern's confidence
--                         pattern  EVOLVES_INTO pattern
--                         agent    DISCOVERED   pattern
--
-- `as_of` and `event` as in 001. A problem's vector is of length 1 and belongs to `embedding_provider`; vectors of two providers
-- are never compared. It is NULL where the text has no words. The vector index is over half-precision values, half the size, and
-- only proposes candidates: similarity is computed from the full vector.

-- "ledger.OutOfMemory: pool_size=4" is searched for as "ledger Out Of Memory pool size 4".
CREATE FUNCTION search_words(searched text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN regexp_replace(regexp_replace(searched, '([a-z])([A-Z])', '\1 \2', 'g'), '[^[:alnum:]]+', ' ', 'g');

CREATE TABLE problems (
    fingerprint        text        PRIMARY KEY,
    system             text        NOT NULL,
    service            text        NOT NULL,
    title              text        NOT NULL,
    description        text        NOT NULL,
    error_patterns     text[]      NOT NULL,
    context            jsonb       NOT NULL,
    severity           text        NOT NULL,
    search_text        text        NOT NULL,  -- title, description and error patterns: what is embedded and searched
    embedding          vector(1536),
    embedding_provider text        NOT NULL,
    tsv                tsvector    GENERATED ALWAYS AS (to_tsvector('english', search_words(search_text))) STORED,
    first_seen         timestamptz NOT NULL,
    last_seen          timestamptz NOT NULL,
    times_seen         integer     NOT NULL,
    as_of              timestamptz NOT NULL,
    event              uuid        NOT NULL
);
-- A parallel build needs more shared memory than many containers have (/dev/shm).
SET LOCAL max_parallel_maintenance_workers = 0;
CREATE INDEX problems_by_meaning ON problems USING hnsw ((embedding::halfvec(1536)) halfvec_cosine_ops);
CREATE INDEX problems_by_words ON problems USING gin (tsv);

CREATE TABLE solutions (
    id                text             PRIMARY KEY,
    title             text             NOT NULL,
    steps             jsonb            NOT NULL,
    prerequisites     jsonb            NOT NULL DEFAULT '[]',
    expected_outcome  text             NOT NULL DEFAULT '',
    side_effects      jsonb            NOT NULL DEFAULT '[]',
    cost              double precision NOT NULL,
    risk              double precision NOT NULL,
    blast_radius      double precision NOT NULL DEFAULT 0.1,
    reversible        boolean          NOT NULL,
    version           integer          NOT NULL DEFAULT 1,
    as_of             timestamptz      NOT NULL,
    event             uuid             NOT NULL
);

CREATE TABLE solution_revisions (
    event     uuid        PRIMARY KEY,
    solution  text        NOT NULL,
    problem   text        NOT NULL,
    system    text        NOT NULL,
    successes integer     NOT NULL,
    trials    integer     NOT NULL,
    advice    text        NOT NULL,
    as_of     timestamptz NOT NULL
);
CREATE INDEX solution_revisions_of_problem ON solution_revisions (problem, solution, as_of);

CREATE TABLE patterns (
    id             text             PRIMARY KEY,
    system         text             NOT NULL,
    rule           jsonb,
    contexts       text[]           NOT NULL DEFAULT '{}',
    problem        text             NOT NULL DEFAULT '',
    parent         text             NOT NULL DEFAULT '',
    confidence     double precision,
    proposed_at    timestamptz,
    proposed_event uuid,
    stage          text             NOT NULL DEFAULT 'proposed',
    version        integer          NOT NULL DEFAULT 1,
    precision      double precision,
    promoted_at    timestamptz,
    promoted_event uuid
);

CREATE TABLE pattern_promotions (
    event     uuid             PRIMARY KEY,
    pattern   text             NOT NULL,
    system    text             NOT NULL,
    version   integer          NOT NULL,
    stage     text             NOT NULL,
    precision double precision,
    as_of     timestamptz      NOT NULL
);
CREATE INDEX pattern_promotions_of_pattern ON pattern_promotions (pattern, as_of);

CREATE TABLE experiences (
    id          uuid        PRIMARY KEY,
    incident    uuid        NOT NULL,
    system      text        NOT NULL,
    environment text        NOT NULL,
    problem     text        NOT NULL,
    solution    text        NOT NULL,
    target      text        NOT NULL,
    request     jsonb       NOT NULL,
    succeeded   boolean     NOT NULL,
    attempt     integer     NOT NULL,
    recovery_s  double precision,
    detail      text        NOT NULL,
    as_of       timestamptz NOT NULL,
    event       uuid        NOT NULL
);
CREATE INDEX experiences_of_problem ON experiences (problem, solution, target);
CREATE INDEX experiences_of_incident ON experiences (incident);

CREATE TABLE agents (
    id         text        PRIMARY KEY,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL
);

CREATE TABLE relations (
    kind      text             NOT NULL
        CHECK (kind IN ('SOLVED_BY', 'REQUIRES', 'DETECTS', 'EVOLVES_INTO', 'DISCOVERED')),
    from_kind text             NOT NULL,
    from_id   text             NOT NULL,
    to_kind   text             NOT NULL,
    to_id     text             NOT NULL,
    weight    double precision NOT NULL DEFAULT 1,
    successes integer          NOT NULL DEFAULT 0,
    trials    integer          NOT NULL DEFAULT 0,
    as_of     timestamptz      NOT NULL,
    event     uuid,
    PRIMARY KEY (kind, from_kind, from_id, to_kind, to_id)
);
CREATE INDEX relations_backwards ON relations (to_kind, to_id, kind);
