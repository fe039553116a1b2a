"""Is what came out right?  Asked before any figure is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from pipeline.bench.rig import Said
from pipeline.bench.workload import Sample, Windows
from topology.errors import AiopsError
from topology.moments import to_us


class WrongResultError(AiopsError):
    """The outputs are not what the input must lead to; how fast they came is of no interest."""


class Outcome(NamedTuple):
    """What became of the inputs of a stage that says one thing per event."""

    lost: int
    double: int
    out_of_order: int


def refuse_wrong_windows(expected: Windows, said: Iterable[Said]) -> None:
    """Raise unless each window came out once, with its count."""
    found: Counter[tuple[str, int]] = Counter()
    values: Windows = {}
    for each in said:
        window = each.service, to_us(datetime.fromisoformat(each.timestamp))
        found[window] += 1
        values[window] = int(each.value)
    refuse_wrong_counts(expected, values, repeated=sum(found.values()) - len(found))


def refuse_wrong_counts(expected: Windows, found: Windows, *, repeated: int = 0) -> None:
    """Raise unless the windows and their counts are as expected, and none came twice."""
    missing = len(expected.keys() - found.keys())
    superfluous = len(found.keys() - expected.keys())
    wrong = sum(found[window] != count for window, count in expected.items() if window in found)
    if missing or superfluous or wrong or repeated:
        msg = (
            f"of {len(expected)} windows {missing} are missing, {wrong} have a wrong count, "
            f"{superfluous} should not be there, {repeated} came more than once"
        )
        raise WrongResultError(msg)


def outcome_of(samples: Sequence[Sample], said: Iterable[Said]) -> Outcome:
    """Whether each sample led to one output, and the outputs of each partition are in the order of their causes."""
    place = {sample.id: number for number, sample in enumerate(samples)}
    causes: Counter[str] = Counter()
    last: dict[int, int] = {}
    out_of_order = 0
    for each in said:
        causes[each.cause] += 1
        number = place.get(each.cause, -1)
        out_of_order += number < last.get(each.partition, -1)
        last[each.partition] = number
    return Outcome(
        lost=len(place.keys() - causes.keys()),
        double=sum(causes.values()) - len(causes) + len(causes.keys() - place.keys()),
        out_of_order=out_of_order,
    )


def miscounted(said: Iterable[Said]) -> int:
    """Of a stage that numbers each service's samples: how many numbers are not the next one."""
    expected: Counter[str] = Counter()
    wrong = 0
    for each in said:
        expected[each.service] += 1
        wrong += each.value != expected[each.service]
    return wrong


def refuse_wrong_forwarding(samples: Sequence[Sample], said: Iterable[Said]) -> None:
    """Raise unless each sample led to exactly one output, in order."""
    outcome = outcome_of(samples, said)
    if any(outcome):
        msg = f"of {len(samples)} events {outcome.lost} are lost, {outcome.double} came twice, {outcome.out_of_order} in wrong order"
        raise WrongResultError(msg)
