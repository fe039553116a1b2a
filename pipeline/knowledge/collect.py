"""How events become rows.

Pure: nothing is written here. Event types that are no knowledge give no rows, so a sink may be fed whole streams.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from pipeline.knowledge import upserts
from pipeline.knowledge.batch import Batch
from pipeline.knowledge.knowledge_rows import add_knowledge
from pipeline.knowledge.story_rows import add_story
from pipeline.knowledge.vectors import Embedding
from topology.event import Event, Payload


def collect(events: Iterable[Event[Payload]], embedding: Embedding) -> Batch:
    """The rows of these events; events about the same row may come in any order and more than once."""
    batch = Batch(embedding)
    heard: dict[str, list[datetime]] = defaultdict(list)
    for event in events:
        tells, teaches = add_story(batch, event), add_knowledge(batch, event)
        if tells or teaches:
            heard[event.source].append(event.timestamp)
    for agent, moments in heard.items():
        batch.add(upserts.AGENTS, id=agent, first_seen=min(moments), last_seen=max(moments))
    return batch
