"""A topology as a picture: Mermaid, DOT and data show the same nodes and arrows."""

from __future__ import annotations

import re

from tests.topology.loop_of_three import TEXT, changed, load
from topology.parse import parse
from topology.picture import as_data, dot, mermaid
from topology.resolve import resolve

NARROWED = changed("consumes: intake", "consumes: {stream: intake, types: [LogWritten]}")


def test_the_flowchart_has_a_node_for_each_stream_and_stage_and_an_arrow_for_each_edge() -> None:
    assert (
        mermaid(resolve(parse(TEXT), load))
        == """\
flowchart LR
    stream_intake[("intake")]
    stream_findings[("findings")]
    stream_incidents[("incidents")]
    stage_notice["notice"]
    stage_gather["gather"]
    stream_intake --> stage_notice
    stage_notice --> stream_findings
    stream_findings --> stage_gather
    stage_gather --> stream_incidents
"""
    )


def test_names_that_a_flowchart_reserves_are_no_trouble() -> None:
    text = changed("id: gather", "id: end", changed("id: notice", "id: a.b-c"))

    chart = mermaid(resolve(parse(text), load))

    assert 'stage_a_dot_b_c["a.b-c"]' in chart
    assert 'stage_end["end"]' in chart


def test_graphviz_gets_the_same_nodes_and_arrows() -> None:
    assert (
        dot(resolve(parse(NARROWED), load))
        == """\
digraph "tiny" {
    rankdir=LR;
    "stream:intake" [label="intake", shape=cylinder];
    "stream:findings" [label="findings", shape=cylinder];
    "stream:incidents" [label="incidents", shape=cylinder];
    "stage:notice" [label="notice", shape=box];
    "stage:gather" [label="gather", shape=box];
    "stream:intake" -> "stage:notice" [label="LogWritten"];
    "stage:notice" -> "stream:findings";
    "stream:findings" -> "stage:gather";
    "stage:gather" -> "stream:incidents";
}
"""
    )


def test_a_program_gets_what_goes_over_every_arrow() -> None:
    data = as_data(resolve(parse(NARROWED), load))

    assert [node["id"] for node in data["nodes"]] == re.findall(
        r'"(\S+)" \[.*shape', dot(resolve(parse(NARROWED), load))
    )
    assert [(arrow["from"], arrow["to"], arrow["types"], arrow["narrowed"]) for arrow in data["arrows"]] == [
        ("stream:intake", "stage:notice", ["LogWritten"], True),
        ("stage:notice", "stream:findings", ["AnomalyDetected"], False),
        ("stream:findings", "stage:gather", ["AnomalyDetected", "TickPassed"], False),
        ("stage:gather", "stream:incidents", ["IncidentOpened"], False),
    ]


def test_stages_of_one_folder_are_drawn_together() -> None:
    agents = {"shop.monitor.one:Notice": load("tiny:Notice"), "shop.monitor.two:Gather": load("tiny:Gather")}
    text = changed("tiny:Gather", "shop.monitor.two:Gather", changed("tiny:Notice", "shop.monitor.one:Notice"))
    drawn = dot(resolve(parse(text), agents.__getitem__))

    cluster = drawn.partition('subgraph "cluster_monitor" {')[2].partition("}")[0]
    assert "stage:notice" in cluster
    assert "stage:gather" in cluster
    assert "stream:" not in cluster
