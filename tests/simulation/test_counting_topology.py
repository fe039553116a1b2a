"""A thousand deployments in which everything goes wrong that can: nothing is lost, counted twice, or out of order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.simulation.counting_story import CountingStory, problems_of
from tests.simulation.plan import REQUEST_FAULTS, TIMED_FAULTS
from tests.simulation.playing import Tally, play_all, plays


@plays(seeds=1_000)
def test_whatever_befalls_it_every_window_and_every_answer_is_right_and_nothing_is_left_over(
    seeds: Sequence[int], tally: Tally
) -> None:
    play_all(CountingStory, problems_of, seeds, tally)


@pytest.mark.long
def test_every_kind_of_fault_really_happened_and_stale_owners_were_fenced(tally: Tally) -> None:
    if tally.runs < 200:
        pytest.skip("few seeds were played before this test")
    kinds = (*REQUEST_FAULTS, *TIMED_FAULTS, "answer failed", "published again", "sink away", "sunk again")
    assert [kind for kind in kinds if not tally.happened[kind]] == []
    assert tally.fenced
