"""Deployments that run several stages as one task, in which everything goes wrong that can."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.chained_story import ChainedStory, problems_of
from tests.simulation.playing import Tally, play_all, plays


@plays(seeds=300)
def test_whatever_befalls_it_a_task_of_several_stages_loses_nothing_and_counts_nothing_twice(
    seeds: Sequence[int], tally: Tally
) -> None:
    play_all(ChainedStory, problems_of, seeds, tally)
