"""No benchmark passes over a wrong output."""

from __future__ import annotations

import pytest

from pipeline.bench.oracle import (
    WrongResultError,
    miscounted,
    outcome_of,
    refuse_wrong_forwarding,
    refuse_wrong_windows,
)
from pipeline.bench.rig import Said
from pipeline.bench.workload import Workload

SAMPLES = list(Workload(events=100, keys=10, partitions=1).samples())
RIGHT = [Said(0, 0, sample.id, "", sample.service, 1.0) for sample in SAMPLES]
EXPECTED = {("a", 10_000_000): 3, ("b", 10_000_000): 1}


def window(service: str, value: float, *, at: str = "1970-01-01T00:00:10Z") -> Said:
    return Said(0, 0, "", at, service, value)


def numbered(service: str, value: float) -> Said:
    return Said(0, 0, "", "", service, value)


def test_right_outputs_pass() -> None:
    refuse_wrong_forwarding(SAMPLES, RIGHT)
    refuse_wrong_windows(EXPECTED, [window("a", 3.0), window("b", 1.0)])
    assert miscounted([numbered("a", 1.0), numbered("b", 1.0), numbered("a", 2.0)]) == 0


def test_what_is_lost_doubled_or_out_of_order_is_counted() -> None:
    assert outcome_of(SAMPLES, RIGHT[1:]) == (1, 0, 0)
    assert outcome_of(SAMPLES, [*RIGHT, RIGHT[-1]]) == (0, 1, 0)
    assert outcome_of(SAMPLES, [RIGHT[1], RIGHT[0], *RIGHT[2:]]) == (0, 0, 1)
    with pytest.raises(WrongResultError, match="1 are lost"):
        refuse_wrong_forwarding(SAMPLES, RIGHT[1:])


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([window("a", 3.0)], "1 are missing"),
        ([window("a", 2.0), window("b", 1.0)], "1 have a wrong count"),
        ([window("a", 3.0), window("b", 1.0), window("c", 1.0)], "1 should not be there"),
        ([window("a", 3.0), window("b", 1.0), window("b", 1.0)], "1 came more than once"),
        ([window("a", 3.0), window("b", 1.0, at="1970-01-01T00:00:20Z")], "1 are missing"),
    ],
)
def test_a_wrong_window_is_refused(said: list[Said], complaint: str) -> None:
    with pytest.raises(WrongResultError, match=complaint):
        refuse_wrong_windows(EXPECTED, said)


def test_a_count_that_skips_or_repeats_is_noticed() -> None:
    said = [numbered("a", 1.0), numbered("a", 1.0), numbered("b", 2.0)]

    assert miscounted(said) == 2
