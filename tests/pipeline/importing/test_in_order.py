"""Whatever order files have, records come in order of time; what is said twice is told apart, or dropped."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.record import Record
from pipeline.importing.in_order import InOrder
from pipeline.importing.observation import Observation, signal
from pipeline.loading import load_topology
from pipeline.recordings.writer import RecordingNotWrittenError
from topology.payloads import MetricSampled

INTAKE = load_topology().streams["intake"]


def said(at_us: int, value: float = 1.0, service: str = "shop") -> Observation:
    return Observation(at_us, signal(MetricSampled, service=service, metric="cpu", value=value))


def records(observations: list[Observation], *, repeats: bool = True, run_bytes: int = 1 << 20) -> list[Record]:
    with TemporaryDirectory() as folder:
        with InOrder(INTAKE, Path(folder), repeats=repeats, run_bytes=run_bytes) as events:
            for each in observations:
                events.add(each.event("test"))
            found = list(events.records())
        assert list(Path(folder).iterdir()) == []
    return found


_OBSERVATIONS = st.lists(
    st.builds(said, st.integers(0, 3_000), st.sampled_from([1.0, 2.0]), st.sampled_from(["shop", "bank"])), max_size=30
)


@given(_OBSERVATIONS, st.integers(1, 2_000))
def test_what_does_not_fit_into_memory_comes_out_the_same(observations: list[Observation], run_bytes: int) -> None:
    plain, aside = records(observations), records(observations, run_bytes=run_bytes)
    assert [(each.offset, each.value) for each in aside] == [(each.offset, each.value) for each in plain]
    offsets = [each.offset for each in plain]
    assert offsets == sorted(set(offsets))
    assert [each.event.at_us for each in plain] == sorted(each.at_us for each in observations)
    assert all(each.offset.ms == each.event.at_us // 1_000 for each in plain)


@given(_OBSERVATIONS, st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_reading(observations: list[Observation], random: object) -> None:
    shuffled = list(observations)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ids = {each.event.id for each in records(observations)}
    assert len(ids) == len(observations)
    assert {each.event.id for each in records(shuffled)} == ids


@given(_OBSERVATIONS)
def test_repetitions_are_dropped_where_they_do_not_count(observations: list[Observation]) -> None:
    kept = records(observations, repeats=False)
    different = Counter((each.at_us, each.payload.model_dump_json()) for each in observations)
    assert Counter((each.event.at_us, each.event.payload.model_dump_json()) for each in kept) == Counter(set(different))


def test_more_runs_than_may_be_open_become_one() -> None:
    observations = [said(at) for at in range(200, 0, -1)]
    assert [each.event.at_us for each in records(observations, run_bytes=1)] == list(range(1, 201))


def test_events_in_memory_take_what_is_counted_for_them(tmp_path: Path) -> None:
    with InOrder(INTAKE, tmp_path, repeats=True) as events:
        events.add(said(1).event("test"))
        tracemalloc.start()
        try:
            for at in range(2_000):
                events.add(said(at).event("test"))
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert taken / 2_000 < 1_500


def test_a_disk_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    with (
        InOrder(INTAKE, tmp_path / "missing", repeats=True, run_bytes=1) as events,
        pytest.raises(RecordingNotWrittenError, match="missing"),
    ):
        events.add(said(1).event("test"))
