"""Progress through a partition: any order of finishing, any restart."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.progress import Progress
from pipeline.engine.record import BEGINNING, Offset, Record


def offset(number: int) -> Offset:
    return Offset(1_000, number)


@given(
    count=st.integers(1, 30),
    lives=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.randoms(use_true_random=False)), max_size=6),
)
def test_whatever_order_records_finish_in_a_restart_processes_each_once(
    count: int, lives: list[tuple[int, int, Random]]
) -> None:
    last = progress = Progress(BEGINNING)
    finished: set[int] = set()
    passed = 0
    for takes_in, finishes, order in [*lives, (count, count, Random(0))]:
        begun: list[int] = []
        for number in range(min(takes_in, count)):
            if offset(number) <= progress.offset:
                continue
            if progress.begin(offset(number)):
                assert number not in finished, "nothing is processed twice"
                begun.append(number)
            else:
                assert number in finished, "nothing is passed over"
        order.shuffle(begun)
        for number in begun[:finishes]:
            progress.finish(offset(number))
            finished.add(number)
        assert all(number in finished for number in range(count) if offset(number) <= progress.offset)
        passed += progress.passed
        last = progress
        progress = Progress(progress.offset, progress.ahead)
    assert last.offset == offset(count - 1)
    assert passed == count
    assert last.ahead == []
    assert last.pending == 0


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_runs_are_as_few_as_the_unfinished_records_between_them(done: list[bool]) -> None:
    progress = Progress(BEGINNING)
    for number in range(len(done)):
        progress.begin(offset(number))
    for number, is_done in enumerate(done):
        if is_done:
            progress.finish(offset(number))
    assert len(progress.ahead) <= done.count(False)


@given(batches=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8), blocked=st.booleans())
def test_records_that_begin_and_finish_together_come_to_the_same_as_one_by_one(
    batches: list[tuple[int, bool]], blocked: bool
) -> None:
    together, single = Progress(BEGINNING, AHEAD), Progress(BEGINNING, AHEAD)
    begun: list[Record] = []
    number = 0
    for size, finish in batches:
        coming = [record(n) for n in range(number, number + size)]
        number += size
        kept = [each for each in coming if single.begin(each.offset)]
        assert list(together.begin_all(coming)) == kept
        begun += kept
        if blocked and begun:
            last = begun.pop()
            together.finish(last.offset)
            single.finish(last.offset)
        if finish:
            together.finish_all(begun)
            for each in begun:
                single.finish(each.offset)
            begun = []
        assert (together.offset, together.position, together.passed) == (single.offset, single.position, single.passed)
        assert (together.pending, together.ahead) == (single.pending, single.ahead)


AHEAD = [(offset(2), offset(4))]


def record(number: int) -> Record:
    return Record("stream", 0, offset(number), "key", "type", b"")
