"""Streams that are passed on in memory only: allowed where two stages can really be one task, shown, and refused elsewhere."""

from __future__ import annotations

import pytest

from tests.contracts.chained import CHAINED, chain
from topology.agent import Agent
from topology.check import check
from topology.defects import Defect
from topology.describe import describe
from topology.parse import parse
from topology.payloads import AnomalyDetected, MetricSampled
from topology.picture import as_data, dot, mermaid
from topology.resolve import resolve
from topology.schema import topology_schema

TEXT = """\
name: chained
streams:
  signals: {carries: [MetricSampled, LogWritten], key: service, partitions: 2}
  samples: {carries: [MetricSampled], key: service, partitions: 2, stored: false}
  counted: {carries: [AnomalyDetected], key: service, partitions: 2}
  intake: {carries: [MetricSampled, LogWritten], key: service, partitions: 2}
stages:
  - id: split
    agent: chained:Split
    consumes: signals
    emits: [samples, counted]
  - id: sum
    agent: chained:Sum
    consumes: samples
    emits: counted
"""


class Back(Agent[AnomalyDetected, MetricSampled]):
    """Says to the first what it hears from the last."""


def load(name: str) -> object:
    return {**CHAINED, "passing:Back": Back}[name]


def defects(*changes: tuple[str, str]) -> list[Defect]:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return [
        each
        for each in check(parse(text, "chained.yaml"), load, written_outside=("signals", "intake"))
        if each.severity == "error"
    ]


def test_two_plain_stages_that_keep_the_key_may_pass_on_in_memory() -> None:
    assert defects() == []


STAGE_MORE = """\
  - id: more
    agent: chained:Sum
    consumes: samples
    emits: counted
"""
BACK = """\
  - id: back
    agent: passing:Back
    consumes: {stream: counted, lag_max: 5}
    emits: signals
"""
SPLIT_MORE = """\
  - id: more
    agent: chained:Split
    consumes: intake
    emits: [samples, counted]
"""


@pytest.mark.parametrize(
    ("change", "line", "found"),
    [
        (("    emits: counted\n", "    emits: counted\n" + STAGE_MORE), 4, "read by 'more', 'sum'"),
        (("    emits: counted\n", "    emits: counted\n" + SPLIT_MORE), 4, "written by 'more', 'split'"),
        (("consumes: samples", "consumes: intake"), 4, "read by none"),
        (("[samples, counted]", "[counted]"), 4, "written by none"),
        (("partitions: 2, stored", "partitions: 3, stored"), 4, "3 partitions by 'service', and its input 'signals'"),
        (("key: service, partitions: 2, stored", "key: metric, partitions: 2, stored"), 4, "2 partitions by 'metric'"),
        (("stored: false", "stored: false, ticks: 1s"), 4, "`ticks` for stream 'samples'"),
        (("stored: false", "stored: false, retain: 1h"), 4, "`retain` for stream 'samples'"),
        (("stored: false", "stored: false, archive: true"), 4, "`archive` for stream 'samples'"),
        (("stored: false", "stored: false, priority: high"), 4, "`priority` for stream 'samples'"),
        (
            ("carries: [MetricSampled], key", "carries: [MetricSampled, LogWritten], key"),
            4,
            "LogWritten, which no stage",
        ),
        (("consumes: samples", "consumes: [samples, intake]"), 14, "and 1 more"),
        (("consumes: samples", "consumes: {stream: samples, lag_max: 5}"), 14, "`lag_max` on 'samples'"),
        (("consumes: samples", "consumes: samples\n    on_poison: halt"), 15, "`halt` at stage 'sum'"),
        (("chained:Sum", "counting:AskWorld"), 13, "with the agent counting:AskWorld"),
    ],
)
def test_what_cannot_be_one_task_is_refused_where_it_is_declared(
    change: tuple[str, str], line: int, found: str
) -> None:
    said = [each for each in defects(change) if found in each.found]
    assert [each.line for each in said] == [line], [str(each) for each in defects(change)]


def test_a_stream_that_sources_write_or_the_sink_reads_lies_on_the_mesh() -> None:
    outside = check(parse(TEXT, "chained.yaml"), load, written_outside=("signals", "intake", "samples"))
    [written] = [each for each in outside if each.severity == "error"]
    assert "which sources write" in written.found
    [read] = defects(("samples", "plans"))
    assert "which a sink reads" in read.found


def test_two_outputs_in_memory_only_are_one_too_many() -> None:
    [said] = defects(
        ("counted: {carries: [AnomalyDetected], key: service, partitions: 2}",
         "counted: {carries: [AnomalyDetected], key: service, partitions: 2, stored: false}\n"
         "  numbered: {carries: [AnomalyDetected], key: service, partitions: 2}"),
        ("    emits: counted\n", "    emits: numbered\n  - {id: number, agent: 'counting:Forward', consumes: counted, emits: numbered}\n"),
    )  # fmt: skip
    assert (said.line, said.found) == (12, "stage 'split' with several outputs in memory only")


def test_stages_that_hear_from_each_other_in_memory_alone_have_no_beginning() -> None:
    ring = """\
name: ring
streams:
  one: {carries: [AnomalyDetected], key: system, partitions: 2, stored: false}
  other: {carries: [AnomalyDetected], key: system, partitions: 2, stored: false}
stages:
  - {id: here, agent: "counting:Forward", consumes: one, emits: other}
  - {id: there, agent: "counting:Forward", consumes: other, emits: one}
"""
    said = [each.found for each in check(parse(ring, "ring.yaml"), load) if each.severity == "error"]
    assert len([each for each in said if "what it says itself or leads to" in each]) == 2


def test_stages_of_one_task_must_not_wait_for_what_only_the_task_itself_would_read() -> None:
    waiting = (
        ("consumes: signals", "consumes: {stream: signals, lag_max: 5}"),
        ("emits: [samples, counted]", "emits: [samples, lines]"),
        ("  intake:", "  lines: {carries: [AnomalyDetected], key: service}\n  intake:"),
        ("    emits: counted\n", "    emits: counted\n" + BACK),
    )
    assert [each.found for each in defects(*waiting)] == [
        "a loop of stages that let each other wait: split -> [samples] -> sum -> [counted] -> back -> [signals] -> split"
    ]


def test_a_chain_knows_its_head_and_where_its_stages_run() -> None:
    topology = chain(stored=False)
    assert [stage.id for stage in topology.tasks] == ["split"]
    assert [stage.id for stage in topology.tasks[0].chain] == ["split", "sum", "forward"]
    assert topology.task_of("forward").id == "split"
    assert [stream.name for stream in topology.stored] == ["signals", "lines", "numbered"]
    assert [stage.id for stage in chain(stored=True).tasks] == ["split", "sum", "forward"]


def test_what_is_in_memory_only_is_shown_as_such() -> None:
    topology = resolve(parse(TEXT, "chained.yaml"), load)
    text = describe(topology)
    assert "  samples (key service, 2 partitions, in memory only)\n" in text
    assert "  split (chained:Split)\n      runs in one task with sum\n" in text
    assert 'stream_samples(["samples"])' in mermaid(topology)
    assert 'stream_signals[("signals")]' in mermaid(topology)
    assert 'label="samples", shape=ellipse' in dot(topology)
    stored = {node["name"]: node["stored"] for node in as_data(topology)["nodes"] if node["kind"] == "stream"}
    assert stored == {"signals": True, "samples": False, "counted": True, "intake": True}
    declared = topology_schema()["$defs"]["StreamSpec"]["properties"]["stored"]
    assert declared["default"] is True
    assert "in memory" in declared["description"]
