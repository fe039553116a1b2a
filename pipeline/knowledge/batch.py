"""The rows of some events, gathered for one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.knowledge import upserts
from pipeline.knowledge.upserts import Row, Upsert
from pipeline.knowledge.vectors import Embedding
from topology.event import Event, Payload

# One end of a relation: its kind and its id.
_End = tuple[str, str]


@dataclass(slots=True)
class Batch:
    """The rows of some events, by the statement that writes them, and what must be derived anew after them."""

    embedding: Embedding
    rows: defaultdict[Upsert, list[Row]] = field(default_factory=lambda: defaultdict(list))
    problems_diagnosed: set[str] = field(default_factory=set)
    problems_treated: set[str] = field(default_factory=set)

    def add(self, upsert: Upsert, **values: object) -> None:
        """One row for one statement."""
        self.rows[upsert].append(upsert.row(**values))

    def relate(self, event: Event[Payload], kind: str, origin: _End, to: _End, weight: float = 1.0) -> None:
        """One relation, as this event claims it."""
        self.add(
            upserts.RELATIONS,
            kind=kind,
            from_kind=origin[0],
            from_id=origin[1],
            to_kind=to[0],
            to_id=to[1],
            weight=weight,
            as_of=event.timestamp,
            event=event.id,
        )

    def in_order(self) -> Iterator[tuple[Upsert, list[Row]]]:
        """Statements that have rows, in the order to run them."""
        return ((upsert, self.rows[upsert]) for upsert in upserts.IN_ORDER if upsert in self.rows)
