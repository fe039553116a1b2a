"""Whether the mesh's server answers and takes writes; each change is said once, however often it is tried."""

from __future__ import annotations

import logging
import time
from typing import Literal

log = logging.getLogger(__name__)

Kind = Literal["away", "refuses writes"]

_CONSEQUENCE: dict[Kind, str] = {
    "away": "stages and sinks wait, sources keep what they hear in their journal or with whoever sent it",
    "refuses writes": "it can be read, but nothing can be committed or published",
}


class Outage:
    """What one process knows of it, from its own calls.

    Attributes:
        quiet: nothing waits here for the server to come back; whoever called says what failed.
    """

    def __init__(self) -> None:
        self._why: dict[Kind, str] = {}
        self._since_s: dict[Kind, float] = {}
        self.quiet = False

    @property
    def trouble(self) -> str:
        """What is wrong now; empty when nothing is."""
        return "; ".join(f"the mesh's server {self._verb(kind)}: {why}" for kind, why in self._why.items())

    def failed(self, kind: Kind, why: str) -> None:
        """A call failed because of the server."""
        if kind not in self._why:
            self._since_s[kind] = time.monotonic()
            self._say("the mesh's server %s: %s; %s", self._verb(kind), why, _CONSEQUENCE[kind])
        self._why[kind] = why

    def worked(self, *, writing: bool) -> None:
        """A call succeeded; only one that writes shows that writes are taken again."""
        if not self._why:
            return
        for kind in [kind for kind in self._why if writing or kind == "away"]:
            del self._why[kind]
            lasted_s = time.monotonic() - self._since_s.pop(kind)
            done = "answers again" if kind == "away" else "takes writes again"
            self._say("the mesh's server %s, after %.1f s", done, lasted_s)

    def _say(self, message: str, *arguments: object) -> None:
        log.log(logging.DEBUG if self.quiet else logging.WARNING, message, *arguments)

    @staticmethod
    def _verb(kind: Kind) -> str:
        return "is away" if kind == "away" else "refuses writes"
