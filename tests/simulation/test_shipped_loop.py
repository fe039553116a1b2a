"""The topology that ships, in deployments that have trouble of their own: each repair is done and judged once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.loop_story import LoopStory, problems_of
from tests.simulation.playing import Tally, play_all, plays


@plays(seeds=100)
def test_whatever_befalls_the_loop_the_patient_is_healed_and_every_action_is_done_and_judged_once(
    seeds: Sequence[int], tally: Tally
) -> None:
    play_all(LoopStory, problems_of, seeds, tally)
