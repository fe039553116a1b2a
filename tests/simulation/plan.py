"""What a seed decides before anything happens: how many workers, and which faults, when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

REQUEST_FAULTS = ("request lost", "answer lost", "request late", "half done", "crash before", "crash after", "slow")
TIMED_FAULTS = ("stall", "kill", "stop", "outage", "cut off", "clock forward", "clock back", "source restart")


@dataclass
class Plan:
    """What a seed decides before anything happens."""

    workers: int
    likely: Mapping[str, float]
    faults: list[tuple[float, str]]

    @classmethod
    def of(cls, dice: Random, lasts_s: float) -> Plan:
        """Each run has only some kinds of faults, so that none hides what another would show."""
        share = dice.choice((0.2, 0.5, 0.8))
        likely = {
            fate: dice.choice((0.002, 0.006, 0.02)) * (0.3 if fate.startswith("crash") else 1.0)
            for fate in REQUEST_FAULTS
            if dice.random() < share
        }
        timed = [kind for kind in TIMED_FAULTS if dice.random() < share]
        count = dice.randrange(1, 6) if timed else 0
        faults = sorted((dice.random() * lasts_s, dice.choice(timed)) for _ in range(count))
        return cls(dice.choice((1, 2, 2, 3)), likely, faults)
