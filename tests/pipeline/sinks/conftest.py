"""Real Postgres for these tests."""

from __future__ import annotations

from tests.pipeline.knowledge.stores import fresh_database_url as fresh_database_url
from tests.pipeline.knowledge.stores import knowledge as knowledge
from tests.pipeline.knowledge.stores import knowledge_url as knowledge_url
from tests.pipeline.knowledge.stores import pool as pool
from tests.pipeline.knowledge.stores import sink as sink
