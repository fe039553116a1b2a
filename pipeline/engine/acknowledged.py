"""What a server has acknowledged to this process, so that one that forgot some of it cannot go unnoticed.

A server that comes back after a crash, or a replica that was promoted, knows a beginning of what was written to the old
one, and that beginning agrees with itself.  So it cannot be seen in the server that something is missing; it takes
somebody outside who remembers.  Every process remembers the number of the last commit of each stage and partition, and
its last publication to each partition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import AskError, MovedError

from pipeline.engine.keys import Keys
from pipeline.engine.mesh import Lease, LostWritesError
from pipeline.engine.record import Offset, Place

COMMITS = "~commits"
"""The field in a partition's offsets that counts its commits."""

_ELSEWHERE = (MovedError, AskError)
"""What a node of a cluster answers about what another one has, which is asked for it in its turn."""

Ask = Callable[[list[tuple[Any, ...]]], Awaitable[list[Any]]]

WHAT_TO_DO = (
    "It lost writes: a failover, a restart without its data, or somebody emptied it. Nothing was gone on with. Restore "
    "the server's data and start again; or start again as it is, and work goes on from what the server has: events that "
    "it lost must be sent again, `aiops doctor` shows what does not fit together"
)


class Acknowledged:
    """Filled by the mesh; asked when a stage's partition is restored, and when a server is met for the first time."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._commits: dict[tuple[str, int], int] = {}
        self._restored: dict[tuple[str, int], str] = {}
        self._published: dict[Place, bytes] = {}

    def restored(self, lease: Lease, commits: int) -> None:
        """So many commits are what this lease begins with.

        A lease without a token is nobody's: who only looks may be told of less than was committed meanwhile.

        Raises:
            LostWritesError: there have been more.
        """
        if not lease.token:
            return
        place = lease.stage, lease.partition
        self._expect(place, commits)
        self._commits[place] = commits
        self._restored[place] = lease.token

    def committed(self, lease: Lease) -> None:
        """One more commit was made."""
        place = lease.stage, lease.partition
        if self._restored.get(place) == lease.token:
            self._commits[place] += 1

    def commits_before(self, lease: Lease) -> int | None:
        """How many commits there must be when the next one is made; None when nothing was restored under this lease."""
        place = lease.stage, lease.partition
        return self._commits[place] if self._restored.get(place) == lease.token else None

    def published(self, place: Place, offset: bytes) -> None:
        """This was appended."""
        self._published[place] = offset

    async def compare(self, ask: Ask) -> None:
        """See whether a server knows all of it.

        Raises:
            LostWritesError: it does not.
        """
        stages, places = list(self._commits), list(self._published.items())
        commands: list[tuple[Any, ...]] = [("HGET", self._keys.owned(*stage, "offsets"), COMMITS) for stage in stages]
        for place, offset in places:
            stream = self._keys.partition(place)
            commands += [("XRANGE", stream, offset, offset), ("XINFO", "STREAM", stream)]
        if not commands:
            return
        answers = await ask(commands)
        for stage, answer in zip(stages, answers, strict=False):
            if isinstance(answer, _ELSEWHERE):
                continue
            self._expect(stage, 0 if isinstance(answer, Exception) else int(answer or 0))
        rest = iter(answers[len(stages) :])
        for place, offset in places:
            entries, info = next(rest), next(rest)
            if isinstance(entries, _ELSEWHERE):
                continue
            if entries == [] and _was_trimmed(offset, info):
                continue
            if not entries or isinstance(entries, Exception):
                msg = f"the server does not know event {offset.decode()} of {place[0]}/{place[1]}, which it had taken. "
                raise LostWritesError(msg + WHAT_TO_DO)

    def _expect(self, place: tuple[str, int], commits: int) -> None:
        known = self._commits.get(place, 0)
        if commits < known:
            msg = f"the server knows {commits} commits of {place[0]}/{place[1]}, but had taken {known}. {WHAT_TO_DO}"
            raise LostWritesError(msg)


def _was_trimmed(offset: bytes, info: Any) -> bool:
    """Whether an event that is not there any more was forgotten on purpose."""
    if isinstance(info, Exception):
        return False
    about = dict(zip(info[::2], info[1::2], strict=False))
    first = about[b"first-entry"]
    kept_from = Offset.parse(first[0]) if first else Offset.parse(about[b"last-generated-id"])
    # Not of a stream that began anew: nothing was ever trimmed from that.
    return Offset.parse(offset) <= kept_from and int(about[b"entries-added"]) > int(about[b"length"])
