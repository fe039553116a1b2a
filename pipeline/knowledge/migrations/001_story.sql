-- What happened: every incident and what was said about it, one row per thing, so that a story can be told from its incident's id.
--
--   incidents  an incident as its newest event tells it (every such event tells the whole)
--   diagnoses  what was thought to be wrong; an incident can be diagnosed again, so one row per event
--   plans      what was proposed; `undo_of` is the action a plan takes back
--   approvals  who allowed or denied a plan; a plan can need several, so one row per event
--   actions    what was done; `started` and `finished` come from two events, in either order
--   outcomes   whether it helped: at most one per action
--
-- `payload`, `started` and `finished` are the event's payload in version `schema_version` of its type; the other columns are there
-- to find rows by. `as_of` is the time of the event a row comes from, `event` its id: of two events about one row the later one
-- counts, the id decides between equal times, so the order in which they are written makes no difference.
-- There are no foreign keys: the streams these rows come from are not ordered among each other.

CREATE TABLE incidents (
    id          uuid        PRIMARY KEY,
    system      text        NOT NULL,
    title       text        NOT NULL,
    severity    text        NOT NULL,
    status      text        NOT NULL CHECK (status IN ('open', 'resolved')),
    opened_at   timestamptz NOT NULL,
    resolved_at timestamptz,
    symptoms    jsonb       NOT NULL,
    changes     jsonb       NOT NULL,
    why         text        NOT NULL,
    as_of       timestamptz NOT NULL,
    step        smallint    NOT NULL,  -- 0 opened, 1 updated, 2 resolved: decides between events of one time
    event       uuid        NOT NULL
);
CREATE INDEX incidents_newest ON incidents (opened_at DESC, id);
CREATE INDEX incidents_newest_by_status ON incidents (status, opened_at DESC, id);

CREATE TABLE diagnoses (
    event          uuid        PRIMARY KEY,
    incident       uuid        NOT NULL,
    system         text        NOT NULL,
    service        text        NOT NULL,
    problem        text        NOT NULL,
    recalled       boolean     NOT NULL,
    as_of          timestamptz NOT NULL,
    schema_version integer     NOT NULL,
    payload        jsonb       NOT NULL
);
CREATE INDEX diagnoses_of_incident ON diagnoses (incident);
CREATE INDEX diagnoses_of_problem ON diagnoses (problem);

CREATE TABLE plans (
    id             uuid        PRIMARY KEY,
    incident       uuid        NOT NULL,
    system         text        NOT NULL,
    problem        text        NOT NULL,
    solution       text        NOT NULL,
    target         text        NOT NULL,
    attempt        integer     NOT NULL,
    autonomy       text        NOT NULL,
    digest         text        NOT NULL,  -- of the exact request; what an approval binds to
    undo_of        uuid,
    as_of          timestamptz NOT NULL,
    event          uuid        NOT NULL,
    schema_version integer     NOT NULL,
    payload        jsonb       NOT NULL
);
CREATE INDEX plans_of_incident ON plans (incident);

CREATE TABLE approvals (
    event          uuid        PRIMARY KEY,
    plan           uuid        NOT NULL,
    digest         text        NOT NULL,
    approved       boolean     NOT NULL,
    decided_by     text        NOT NULL,
    as_of          timestamptz NOT NULL,
    schema_version integer     NOT NULL,
    payload        jsonb       NOT NULL
);
CREATE INDEX approvals_of_plan ON approvals (plan);

CREATE TABLE actions (
    id               uuid        PRIMARY KEY,
    plan             uuid        NOT NULL,
    incident         uuid        NOT NULL,
    system           text        NOT NULL,
    problem          text        NOT NULL,
    solution         text        NOT NULL,
    target           text        NOT NULL,
    status           text        GENERATED ALWAYS AS (coalesce(finished ->> 'status', 'started')) STORED,
    started_at       timestamptz,
    started_event    uuid,
    started_version  integer,
    started          jsonb,
    finished_at      timestamptz,
    finished_event   uuid,
    finished_version integer,
    finished         jsonb,
    CHECK (started IS NOT NULL OR finished IS NOT NULL)
);
CREATE INDEX actions_of_incident ON actions (incident);

CREATE TABLE outcomes (
    action         uuid        PRIMARY KEY,
    plan           uuid        NOT NULL,
    incident       uuid        NOT NULL,
    system         text        NOT NULL,
    problem        text        NOT NULL,
    solution       text        NOT NULL,
    verdict        text        NOT NULL,
    as_of          timestamptz NOT NULL,
    event          uuid        NOT NULL,
    schema_version integer     NOT NULL,
    payload        jsonb       NOT NULL
);
CREATE INDEX outcomes_of_incident ON outcomes (incident);
