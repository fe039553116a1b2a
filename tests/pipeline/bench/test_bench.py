"""``aiops bench``, in its short form: real servers and real processes, few events."""

from __future__ import annotations

import pytest

from pipeline.bench import restore
from pipeline.bench.latency import percentile
from pipeline.bench.rig import embedded_server
from tests.pipeline.commands.calling import call, call_json

pytestmark = [pytest.mark.servers]


@pytest.mark.slow
def test_engine_measures_every_case_once_its_outputs_are_right() -> None:
    found = call_json("bench", "engine", "--quick", "--events", "2000", "--json")

    assert len(found["cases"]) == 6
    assert all(case["events_per_cpu_s"] > 0 for case in found["cases"].values())
    assert found["two_workers_cpu_ratio"] > 0
    assert found["in_memory_ratio"] > 0
    assert found["machine"]["cores"] > 0


@pytest.mark.slow
def test_latency_measures_at_two_parts_of_the_capacity() -> None:
    found = call_json("bench", "latency", "--quick", "--events", "2000", "--json")

    assert [each["load"] for each in found["loads"]] == [0.5, 0.8]
    assert all(0 <= each["p50_ms"] <= each["p99_ms"] <= each["most_ms"] for each in found["loads"])


@pytest.mark.slow
def test_recovery_loses_nothing_and_counts_nothing_twice() -> None:
    found = call_json("bench", "recovery", "--quick", "--events", "2000", "--json")

    assert found["moved_partitions"] > 0
    assert (found["lost"], found["double"], found["order_violations"]) == (0, 0, 0)
    assert found["within_lease_and_a_second"]
    moved = found["handover"]
    assert moved["within_three_seconds"]
    assert (moved["lost"], moved["double"], moved["order_violations"]) == (0, 0, 0)
    assert found["restore"]["keys"] == 20_000
    assert found["restore"]["rows_per_s"] > 0


@pytest.mark.long
async def test_a_million_keys_are_restored_within_twenty_seconds_and_another_partition_hardly_notices() -> None:
    with embedded_server() as (url, _):
        found = await restore.measure(url, keys=1_000_000, tell=print)

    assert found["seconds"] < 20
    assert found["longest_pause_of_another_partition_ms"] < 500
    assert found["worker_memory_mb"] < 350, "the rows that are restored never lie in memory beside the tables"


def test_backtest_tells_people_in_lines() -> None:
    result = call("bench", "backtest", "--quick", "--events", "1000")

    assert result.exit_code == 0, result.output
    assert "events per cpu s" in result.stdout


def test_a_percentile_is_a_value_that_was_there() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert percentile([5.0], 0.5) == 5.0
