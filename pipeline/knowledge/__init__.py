"""What is known, in Postgres with pgvector: problems, solutions, patterns, experiences, relations, and every incident's story.

- `connections`: the pool, the codecs, and which failures of the store are worth a retry.
- `migrate`: the schema, brought up to date under a lock.
- `store`: `PostgresKnowledge` answers `RecallProblem` and reads what a person asks for.
- `story`: the models of those answers.
- `collect`, `story_rows`, `knowledge_rows`, `batch`: how events become rows; `upserts`: how rows are written, by
  `pipeline.sinks.postgres`; `queries`: how they are read.
- `vectors`: texts as vectors.
"""
