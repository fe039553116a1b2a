"""Every key the engine uses in Redis, and what it holds; nobody else builds one.

    {ns:n}:s:{stream}:{p}          stream   the events of a partition; fields k (key), t (event type), e (event as JSON)
    {ns:n}:s:{stream}:{p}:seen     zset     lately published ids that are derived -> time; how repetitions are recognised
    {ns:n}:s:{stream}:{p}:random   zset     the same for random ids, which come in greater numbers and are repeated at once
    {ns:n}:s:{stream}:{p}:from:{m} zset     what lately came from outbox m ("<offset> <event id>") -> number of the call that brought it
    {ns:n}:s:~outbox:{n}           stream   on a cluster: outputs on their way to other slots
    {ns:n}:forwarded               hash     "<m>" -> number of the last token that forwarded from outbox m, "~calls"
    {ns:n}:t:{stage}:{p}:lease     string   "<token>" of the owner; expires
    {ns:n}:t:{stage}:{p}:tokens    string   counts owners up for ever: the fencing token
    {ns:n}:t:{stage}:{p}:state     hash     rows of the stage's tables ("<table>/<row>") and of the engine ("~...")
    {ns:n}:t:{stage}:{p}:offsets   hash     "<stream>/<p>" -> offset, "<stream>/<p>#" -> records read, "~commits" -> their number
    {ns:n}:t:{stage}:{p}:answers   hash     answers of the world for events that are not done
    {ns:0}:partitions              hash     "stream <name>", "stage <id>" -> how many partitions it has
    {ns:0}:report:{worker}         string   what a live worker says of itself, as JSON; expires
    {ns:0}:workers                 zset     worker -> alive until (ms)
    {ns:0}:workers:takes           hash     worker -> what it takes, see members.py
    {ns:0}:s:~members:0            stream   its only entry is newer than the last change of the list of live workers

The braces around ``ns:n`` are in the key: on a cluster what is between them decides the slot.  ``n`` is the partition's
number (modulo ``SLOTS_MAX``), so everything of the same number is in one slot, whatever the stream or stage: what is
co-partitioned is committed together.

Each stage is a consumer group, named after it, on the partitions it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.engine.mesh import MEMBERS
from pipeline.engine.record import Place

SLOTS_MAX = 64
"""Into so many slots of a cluster a namespace is divided; a worker needs a blocking connection for each it reads."""
OUTBOX = "~outbox"
"""The stream, with a partition per slot, of what a cluster's commits send to other slots."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds the keys of one namespace."""

    namespace: str

    def partition(self, place: Place) -> str:
        """The stream of a partition."""
        return f"{{{self.namespace}:{place[1] % SLOTS_MAX}}}:s:{place[0]}:{place[1]}"

    def seen(self, place: Place) -> str:
        """Derived ids lately published to a partition."""
        return f"{self.partition(place)}:seen"

    def seen_random(self, place: Place) -> str:
        """Random ids lately published to a partition."""
        return f"{self.partition(place)}:random"

    def came_from(self, place: Place, outbox: int) -> str:
        """Entries of an outbox that lately came to a partition."""
        return f"{self.partition(place)}:from:{outbox}"

    def forwarded(self, partition: int) -> str:
        """Who forwarded to the slot of a partition."""
        return f"{{{self.namespace}:{partition % SLOTS_MAX}}}:forwarded"

    def owned(self, stage: str, partition: int, what: str) -> str:
        """Something of a stage's partition: lease, tokens, state, offsets, answers."""
        return f"{{{self.namespace}:{partition % SLOTS_MAX}}}:t:{stage}:{partition}:{what}"

    def stage_of(self, owned: str) -> tuple[str, int]:
        """The stage and the partition of what :meth:`owned` answered."""
        stage, partition, _ = owned.partition("}:t:")[2].rsplit(":", 2)
        return stage, int(partition)

    def all_owned(self, what: str, *, stage: str = "*") -> str:
        """A pattern of something of all stages' partitions, or of all of one stage."""
        return f"{{{self.namespace}:*}}:t:{stage}:*:{what}"

    def all_partitions(self, stream: str) -> str:
        """A pattern of the streams of all partitions, and of what is remembered beside them."""
        return f"{{{self.namespace}:*}}:s:{stream}:*"

    @property
    def partition_counts(self) -> str:
        """How many partitions streams and stages have."""
        return f"{{{self.namespace}:0}}:partitions"

    def report(self, worker: str) -> str:
        """What a worker says of itself."""
        return f"{{{self.namespace}:0}}:report:{worker}"

    @property
    def workers(self) -> str:
        """Who is alive."""
        return f"{{{self.namespace}:0}}:workers"

    @property
    def members(self) -> tuple[str, str, str]:
        """Who is alive, what each of them takes, and the stream that tells of changes."""
        return self.workers, f"{self.workers}:takes", self.partition(MEMBERS)

    @property
    def everything(self) -> str:
        """A pattern of all keys of the namespace."""
        return f"{{{self.namespace}:*"


def slot_of(partition: int) -> int:
    """The number of the slot that a partition's keys share."""
    return partition % SLOTS_MAX
