"""Which solution to try first: what experience says, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NOTHING = "nothing"
"""The solution of doing nothing; it is always among the choices, because problems pass, too."""

PSEUDO_COUNT = 4.0
"""How many experiences, at most, the more general levels are worth to a more specific one."""

# Before any experience a solution helps every other time, and a problem passes by itself one time in ten.
_HELPS_BY_DEFAULT = 0.5
_PASSES_BY_DEFAULT = 0.1
# What similar problems may weigh together; beyond it they would drown what happens here.
_SIMILAR_TRIALS_MAX = 5.0
# 90 % one-sided: ten successes of ten give .86, nine of ten .74.
_GATE_Z = 1.2816
_RANK_OFFSET = 60


class Tally(NamedTuple):
    """How often something was tried and helped; fractions when an experience counts in part."""

    successes: float = 0.0
    trials: float = 0.0

    @property
    def failures(self) -> float:
        """How often it did not help."""
        return self.trials - self.successes

    def __or__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.successes + other.successes, self.trials + other.trials)


class Record(NamedTuple):
    """How one solution did for one problem at one target in one environment.

    Attributes:
        similarity: of that problem to the one in hand; 1 is the very same.
    """

    problem: str
    solution: str
    target: str
    environment: str
    tally: Tally
    similarity: float = 1.0


def posterior_mean(tally: Tally, *, before: float = 0.5, strength: float = 2.0) -> float:
    """The expected success rate after some experience; by default from a prior of Beta(1, 1).

    Args:
        before: the rate expected without experience.
        strength: how many experiences that expectation is worth.
    """
    return (tally.successes + before * strength) / (tally.trials + strength)


def wilson_lower_bound(tally: Tally, *, z: float = _GATE_Z) -> float:
    """A rate the true one is above with 90 % confidence; 0 without experience.

    A gate for autonomy, never for ranking: it punishes what was seldom tried, so nothing new would ever be.
    """
    if tally.trials <= 0:
        return 0.0
    rate, trials = tally.successes / tally.trials, tally.trials
    centre = rate + z * z / (2 * trials)
    margin = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, (centre - margin) / (1 + z * z / trials))


def success_probability(
    records: Iterable[Record], *, solution: str, problem: str, target: str, environment: str = ""
) -> float:
    """How likely a solution helps here, by what is known from everywhere.

    From the general to the particular: similar problems, this problem elsewhere, here in other environments, exactly
    here; every record counts in one of them.  Each level corrects what the ones before it made expect, and that
    expectation is worth at most ``PSEUDO_COUNT`` experiences: a few local ones bend the general picture, many replace
    it.  With experience of one level only, this is the mean of Beta(1 + successes, 1 + failures).
    """
    similar, elsewhere, here, exactly_here = Tally(), Tally(), Tally(), Tally()
    for record in records:
        if record.solution != solution:
            continue
        if record.problem != problem:
            weight = min(max(record.similarity, 0.0), 1.0)
            similar |= Tally(record.tally.successes * weight, record.tally.trials * weight)
        elif record.target != target:
            elsewhere |= record.tally
        elif record.environment != environment:
            here |= record.tally
        else:
            exactly_here |= record.tally
    if similar.trials > _SIMILAR_TRIALS_MAX:
        similar = Tally(similar.successes * _SIMILAR_TRIALS_MAX / similar.trials, _SIMILAR_TRIALS_MAX)
    expected, worth = (_PASSES_BY_DEFAULT, PSEUDO_COUNT) if solution == NOTHING else (_HELPS_BY_DEFAULT, 2.0)
    for level in (similar, elsewhere, here, exactly_here):
        expected = posterior_mean(level, before=expected, strength=worth)
        worth = min(PSEUDO_COUNT, worth + level.trials)
    return expected


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that could be done.

    Attributes:
        probability: how likely it helps (``success_probability``).
        cost: of doing it; 0 nothing, 1 as bad as the problem.
        risk: how likely it does harm.
        blast_radius: the share of the system such harm would reach.
    """

    solution: str
    probability: float
    cost: float = 0.0
    risk: float = 0.0
    blast_radius: float = 0.0
    reversible: bool = True

    def utility(self, benefit: float = 1.0) -> float:
        """What is gained on average: probability x benefit - cost - risk x blast radius."""
        return self.probability * benefit - self.cost - self.risk * self.blast_radius


def do_nothing(probability: float = _PASSES_BY_DEFAULT) -> Choice:
    """The choice to wait; ``probability`` is how likely the problem passes by itself."""
    return Choice(NOTHING, probability)


def rank_choices(choices: Iterable[Choice], *, benefit: float = 1.0) -> list[Choice]:
    """All choices, the most useful first; doing nothing is added when it is missing.

    The mean decides, not its uncertainty: over the few dozen times a problem is met, exploring costs more than it
    finds.  Equal utilities are decided by reversible first, then the cheaper, then the name, so that a replay chooses
    the same.

    Args:
        benefit: what it is worth that the problem is gone; 1 when costs are measured in problems.
    """
    all_choices = list(choices)
    if all(choice.solution != NOTHING for choice in all_choices):
        all_choices.append(do_nothing())
    return sorted(
        all_choices,
        key=lambda choice: (-choice.utility(benefit), not choice.reversible, choice.cost, choice.solution),
    )


def fuse_rankings(
    rankings: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None, offset: int = _RANK_OFFSET
) -> list[tuple[str, float]]:
    """Several rankings of the same things as one, by reciprocal ranks; best first, with the fused score.

    Only ranks count, so that scores of different making, such as a text rank and a distance, need not be comparable.
    What a ranking does not name gets nothing from it; what it names twice counts where it stands first.

    Raises:
        ValueError: there is not one weight for each ranking.
    """
    shares = [1.0] * len(rankings) if weights is None else list(weights)
    if len(shares) != len(rankings):
        msg = f"found {len(shares)} weights for {len(rankings)} rankings; give one for each"
        raise ValueError(msg)
    scores: dict[str, float] = {}
    for ranking, share in zip(rankings, shares, strict=True):
        for rank, name in enumerate(dict.fromkeys(ranking), start=1):
            scores[name] = scores.get(name, 0.0) + share / (offset + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
