"""A topology in words."""

from __future__ import annotations

from tests.topology.loop_of_three import changed, load
from topology.describe import LINE_LENGTH, describe
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


def test_no_line_is_too_long_to_read() -> None:
    wide = "MetricSampled, LogWritten, AlertFired, AlertResolved, ChangeApplied, HeartbeatSeen, AnomalyDetected, PatternMatched"
    text = changed("[MetricSampled, LogWritten]", f"[{wide}]")

    assert max(map(len, describe(resolve(parse(text), load)).splitlines())) <= LINE_LENGTH
