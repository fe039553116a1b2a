"""What a run of chaos found out, and its last line."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

STALLED = "SIGSTOP past the lease"
"""The fault after which somebody must have been fenced."""
_SHOWN_MAX = 10


@dataclass
class Report:
    """Counts of what must never happen, and of what must.

    Attributes:
        lost: acknowledged events that are gone, and conclusions that are missing.
        double: conclusions there are too many of, and what was counted twice.
        order_violations: conclusions of a key that come in another order than their causes.
        faults: how often each fault really happened.
        fenced: how often a worker was refused because somebody else owns its partition.
        lost_writes: by fault, how many acknowledged events the server lost, where the server may (no persistence, a
            failover, a second of everysec): the engine cannot bring them back, it must say so.
        reported: by fault, how many workers and sources said so.
        skipped: faults this machine does not allow, and why.
        evidence: what broke, in words.
    """

    seed: int
    lost: int = 0
    double: int = 0
    order_violations: int = 0
    fenced: int = 0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost_writes: Counter[str] = field(default_factory=Counter)
    reported: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    _began_s: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began_s

    def say(self, what: str) -> None:
        """One line of progress."""
        sys.stderr.write(f"[chaos {self.seed} {self.seconds:5.1f} s] {what}\n")
        sys.stderr.flush()

    def happened(self, fault: str, what: str = "") -> None:
        """A fault really happened."""
        self.faults[fault] += 1
        self.say(f"{fault}{': ' if what else ''}{what}")

    def broken(self, what: str) -> None:
        """Something broke that must not."""
        self.evidence.append(what)
        self.say(f"BROKEN: {what}")

    def must_have_happened(self, *faults: str) -> None:
        """The "sometimes" assertions: a fault that never happened has proven nothing."""
        for fault in faults:
            if not self.faults[fault] and fault not in self.skipped:
                self.broken(f"the fault {fault!r} never happened")
        if STALLED in faults and not self.fenced:
            self.broken("nobody was ever fenced")

    @property
    def failed(self) -> bool:
        """Whether an invariant broke."""
        return bool(self.lost or self.double or self.order_violations or self.evidence)

    def last_line(self) -> str:
        """The figures as JSON; with the evidence when something broke."""
        said: dict[str, object] = {
            "lost": self.lost,
            "double": self.double,
            "order_violations": self.order_violations,
            "faults": dict(sorted(self.faults.items())),
            "fenced": self.fenced,
            "seed": self.seed,
            "lost_writes": dict(self.lost_writes),
            "lost_writes_reported": dict(self.reported),
            "events": self.events,
            "seconds": round(self.seconds, 1),
        }
        if self.skipped:
            said["skipped"] = self.skipped
        if self.evidence:
            said["evidence"] = [*self.evidence[:_SHOWN_MAX]]
        return json.dumps(said)
