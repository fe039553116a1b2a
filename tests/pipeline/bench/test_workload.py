"""The input of the benchmarks is what BENCHMARKS.md says it is."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.bench.workload import COUNTED, ENDS, LATENESS_US, Workload, counted_windows, systems
from pipeline.engine.record import partition_of
from topology.codec import decode
from topology.payloads.signals import MetricSampled

WORKLOAD = Workload(events=20_000, keys=100)
SAMPLES = list(WORKLOAD.samples())


def test_it_is_the_same_each_time() -> None:
    assert list(WORKLOAD.samples()) == SAMPLES
    assert len(SAMPLES) == WORKLOAD.total


def test_its_events_are_ours_and_have_about_200_bytes() -> None:
    for sample in SAMPLES[:100]:
        event = decode(sample.value)
        assert isinstance(event.payload, MetricSampled)
        assert (str(event.id), event.payload.service, event.at_us) == (sample.id, sample.service, sample.at_us)
        assert 190 <= len(sample.value) <= 210


def test_a_service_is_always_in_the_partition_where_an_output_about_it_goes() -> None:
    assert all(sample.partition == partition_of(sample.service, WORKLOAD.partitions) for sample in SAMPLES)


def test_one_in_twenty_is_out_of_order_but_none_too_late() -> None:
    latest, late = 0, 0
    for sample in SAMPLES:
        late += sample.at_us < latest
        latest = max(latest, sample.at_us)
        assert sample.at_us >= latest - LATENESS_US

    assert late / len(SAMPLES) == pytest.approx(0.05, abs=0.01)


def test_few_services_are_busy_and_many_are_not() -> None:
    counts = Counter(sample.service for sample in SAMPLES).most_common()

    assert counts[0][1] > 5 * counts[9][1]


def test_the_oracle_counts_what_passes_filter_and_lookup() -> None:
    kept = [s for s in SAMPLES if s.metric == COUNTED and s.service in systems(100) and s.service not in ENDS]

    windows = counted_windows(iter(SAMPLES), 100)

    assert sum(windows.values()) == len(kept)
    assert 0.85 < len(kept) / len(SAMPLES) < 0.95


def test_the_last_event_of_each_partition_closes_every_window() -> None:
    ends = SAMPLES[-WORKLOAD.partitions :]

    assert {sample.partition for sample in ends} == set(range(WORKLOAD.partitions))
    assert all(sample.service in ENDS for sample in ends)
    assert min(sample.at_us for sample in ends) - max(s.at_us for s in SAMPLES[: WORKLOAD.events]) > 3_000_000_000
