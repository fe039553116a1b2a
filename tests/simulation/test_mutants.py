"""The simulation notices what it is there to notice: each mesh that is broken on purpose is caught within 200 seeds."""

from __future__ import annotations

import pytest

from tests.simulation import mutants
from tests.simulation.counting_story import CountingStory, problems_of
from tests.simulation.playing import first_caught
from tests.simulation.remembering import RememberingMesh
from tests.simulation.wire import Wire

_SEEDS = range(200)


@pytest.mark.parametrize(
    "wire_class",
    [
        pytest.param(mutants.OffsetFirst, id="offset stored before state"),
        pytest.param(mutants.OffsetLast, id="state stored before offset"),
    ],
)
def test_a_commit_in_two_parts_is_caught(wire_class: type[Wire]) -> None:
    assert first_caught(CountingStory, problems_of, _SEEDS, wire_class=wire_class) is not None


@pytest.mark.parametrize(
    "mesh_class",
    [
        pytest.param(mutants.NoFence, id="no fence at the commit"),
        pytest.param(mutants.SameToken, id="one token for all owners"),
        pytest.param(mutants.NoDedupe, id="no dedupe at publish"),
        pytest.param(mutants.ForgetsAnswers, id="answers not recorded"),
    ],
)
def test_a_mesh_that_does_not_keep_its_word_is_caught(mesh_class: type[RememberingMesh]) -> None:
    assert first_caught(CountingStory, problems_of, _SEEDS, mesh_class=mesh_class) is not None
