"""What BENCHMARKS.md says follows from the results, also where they are not what was hoped for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.benchmarks.report import OURS, goals, picture, write_page


def case(rate: int) -> dict[str, Any]:
    return {
        "events": 1_000,
        "events_per_cpu_s": rate,
        "events_per_cpu_s_range": [rate - 1, rate + 1],
        "events_per_s": rate,
        "cpu_s_per_million": 1.0,
        "server_cpu_s_per_million": 1.0,
        "rss_mb": 50,
        "outputs": 10,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    counts = ("count, 100 keys", "count, 100 keys, two workers", "count, 100,000 keys")
    load = {
        "load": 0.5, "events_per_s": 10, "p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "most_ms": 4.0, "p99_from_xadd_ms": 3,
    }  # fmt: skip
    return {
        "at": "2026-01-01T00:00Z",
        "machine": {
            "processor": "P", "cores": 2, "memory_gb": 4, "system": "Linux", "python": "3.11", "versions": {"a": "1"}, "load_before": [0],
        },
        "engine": {
            "cases": {
                **dict.fromkeys(counts, case(200_000)),
                "typed stage, one output per event": case(30_000),
            },
            "two_workers_cpu_ratio": 1.2,
        },
        "latency": {"capacity_events_per_s": 20, "loads": [load, {**load, "load": 0.8}]},
        "recovery": {
            "lease_s": 5.0, "rounds": 3, "events": 100, "moved_partitions": 12, "first_output_after_s": {"least": 4.0, "most": 5.5},
            "lost": 0, "double": 0, "order_violations": 0,
            "restore": {
                "keys": 1_000_000, "seconds": 4.0, "rows_per_s": 250_000, "longest_pause_of_another_partition_ms": 60, "worker_memory_mb": 211,
            },
        },
        "backtest": {"cases": {name: {"events_per_cpu_s": 300_000, "range": [1, 2]} for name in ("count", "detectors")}},
        "peers": {
            "rounds": 3, "kafka": "4", "missing": {"Quix Streams": "no Kafka broker"},
            "keys_100": {OURS: case(200_000), "Faust": case(4_000)},
        },
    }  # fmt: skip


def test_a_goal_that_is_missed_says_by_how_much(results: dict[str, Any]) -> None:
    verdicts = {goal.what: goal.verdict for goal in goals(results)}

    assert verdicts["typed stage, one output per event"] == "missed: 50% of it"
    assert verdicts["processor time of two workers to that of one"] == "missed: 1.04 times the limit"
    assert verdicts["keyed windowed count, 100 keys"] == "met"
    assert verdicts["count, 100 keys, to Faust"] == "met"
    assert verdicts["a million keys restored"] == "met"


def test_the_page_has_every_part_and_names_who_is_missing(results: dict[str, Any], tmp_path: Path) -> None:
    write_page(results, tmp_path)

    page = (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## What we promised",
        "## The engine: `aiops bench engine`",
        "## Latency: `aiops bench latency`",
        "## Recovery: `aiops bench recovery`",
        "## Backtest: `aiops bench backtest`",
        "## The peers",
        "## Again",
    ]
    assert "A partition with 1,000,000 keys came to a worker in 4 s (250,000 rows/s)" in page
    assert "Not measured: Quix Streams: no Kafka broker" in page
    assert (tmp_path / "BENCHMARKS.svg").exists()


def test_the_picture_is_a_picture_with_a_bar_for_each() -> None:
    root = ElementTree.fromstring(picture([("AI-Ops Core, 100 keys", 200_000.0), ("Faust, 100 keys", 4_000.0)]))  # noqa: S314 - ours

    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    assert len(bars) == 2
    assert float(bars[0].attrib["width"]) > float(bars[1].attrib["width"]) > 0
