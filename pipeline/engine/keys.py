"""Every key the engine uses in Redis, and what it holds; nobody else builds one.

    {ns}:s:{stream}:{p}          stream   the events of a partition; fields k (key), t (event type), e (event as JSON)
    {ns}:s:{stream}:{p}:seen     zset     lately published ids that are derived -> time; how repetitions are recognised
    {ns}:s:{stream}:{p}:random   zset     the same for random ids, which come in greater numbers and are repeated at once
    {ns}:t:{stage}:{p}:lease     string   "<token>" of the owner; expires
    {ns}:t:{stage}:{p}:tokens    string   counts owners up for ever: the fencing token
    {ns}:t:{stage}:{p}:state     hash     rows of the stage's tables ("<table>/<row>") and of the engine ("~...")
    {ns}:t:{stage}:{p}:offsets   hash     "<stream>/<p>" -> offset, "<stream>/<p>#" -> records read, "~commits" -> their number
    {ns}:t:{stage}:{p}:answers   hash     answers of the world for events that are not done
    {ns}:workers                 zset     worker (and what it takes, see members.py) -> alive until (ms)

Each stage is a consumer group, named after it, on the partitions it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.record import Place


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds the keys of one namespace."""

    namespace: str

    def partition(self, place: Place) -> str:
        """The stream of a partition."""
        return f"{self.namespace}:s:{place[0]}:{place[1]}"

    def seen(self, place: Place) -> str:
        """Derived ids lately published to a partition."""
        return f"{self.partition(place)}:seen"

    def seen_random(self, place: Place) -> str:
        """Random ids lately published to a partition."""
        return f"{self.partition(place)}:random"

    def owned(self, stage: str, partition: int, what: str) -> str:
        """Something of a stage's partition: lease, tokens, state, offsets, answers."""
        return f"{self.namespace}:t:{stage}:{partition}:{what}"

    @property
    def workers(self) -> str:
        """Who is alive."""
        return f"{self.namespace}:workers"
