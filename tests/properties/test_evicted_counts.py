"""How many keys were dropped follows from the input alone: not from batches, commits or restarts in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.counting import sample
from tests.pipeline.engine.stages import Bench, Crowded

entries = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40)), min_size=1, max_size=30)
cuts = st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=30)


def evicted(given_entries: list[tuple[str, int]], given_cuts: list[tuple[int, bool]]) -> bytes | None:
    """What is committed in the end, with a commit after so many events, each perhaps followed by a restart."""
    bench = Bench(Crowded)
    events = [sample(number, key, at_s) for number, (key, at_s) in enumerate(given_entries)]
    for size, restarts in given_cuts:
        bench.offer(*events[:size])
        del events[:size]
        bench.work()
        if restarts:
            bench.restore()
    bench.offer(*events)
    bench.work()
    return bench.restored.state.get("~evicted")


@given(entries, cuts)
def test_what_is_counted_as_dropped_does_not_depend_on_commits_and_restarts(
    given_entries: list[tuple[str, int]], given_cuts: list[tuple[int, bool]]
) -> None:
    assert evicted(given_entries, given_cuts) == evicted(given_entries, [])
