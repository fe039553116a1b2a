"""A topology as text and as a flowchart."""

from __future__ import annotations

from tests.topology.loop_of_three import TEXT, changed, load
from topology.describe import LINE_LENGTH, describe, mermaid
from topology.parse import parse
from topology.resolve import resolve


def test_the_text_says_what_every_stage_takes_and_gives() -> None:
    text = changed("key: system, ticks: 1s", "key: system, ticks: 1s, retain: 24h, archive: true, priority: high")

    assert (
        describe(resolve(parse(text), load))
        == """\
Topology tiny: 3 streams, 2 stages

Streams
  intake (key service, 4 partitions)
      LogWritten, MetricSampled
  findings (key system, 4 partitions, ticks every 1s, kept 1d, then archived, high priority)
      AnomalyDetected
  incidents (key system, 4 partitions)
      IncidentOpened

Stages
  notice (tiny:Notice)
      <-- intake: LogWritten, MetricSampled
      --> findings: AnomalyDetected
  gather (tiny:Gather)
      <-- findings: AnomalyDetected, TickPassed
      --> incidents: IncidentOpened
"""
    )


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


def test_no_line_is_too_long_to_read() -> None:
    wide = "MetricSampled, LogWritten, AlertFired, AlertResolved, ChangeApplied, HeartbeatSeen, AnomalyDetected, PatternMatched"
    text = changed("[MetricSampled, LogWritten]", f"[{wide}]")

    assert max(map(len, describe(resolve(parse(text), load)).splitlines())) <= LINE_LENGTH
