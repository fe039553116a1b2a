"""What a stage takes of the streams: by name, by type wherever it flows, under a condition, within limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.topology.loop_of_three import TEXT, changed, load
from topology.agent import Agent
from topology.check import check
from topology.defects import Defect
from topology.describe import describe
from topology.graph import Stage, Topology
from topology.parse import parse
from topology.payloads import (
    ActionFinished,
    AnomalyDetected,
    ExperienceRecorded,
    IncidentOpened,
    LogWritten,
    MetricSampled,
    OutcomeVerified,
    PatternMatched,
)
from topology.picture import mermaid
from topology.resolve import resolve

WIDE = """\
name: wide
streams:
  intake: {carries: [MetricSampled, LogWritten], key: service}
  others: {carries: [MetricSampled, HeartbeatSeen], key: service}
  findings: {carries: [AnomalyDetected], key: service}
stages:
  - id: notice
    agent: tiny:Notice
    consumes: intake
    emits: findings
"""


def _check(text: str) -> tuple[Defect, ...]:
    return check(parse(text, "wide.yaml"), load, written_outside=("intake", "others"))


def _resolved(consumes: str) -> Topology:
    return resolve(parse(changed("consumes: intake", f"consumes: {consumes}", WIDE), "wide.yaml"), load)


def _notice(consumes: str) -> Stage:
    return _resolved(consumes).stage("notice")


def _errors(consumes: str, text: str = WIDE) -> list[str]:
    return [str(each) for each in _check(changed("consumes: intake", f"consumes: {consumes}", text))]


def test_a_stream_that_is_simply_read_has_no_edge_of_its_own() -> None:
    assert _notice("intake").edges == {}
    assert _notice("{stream: intake}").edges == {}
    assert _notice("[{stream: intake}]").inputs == _notice("intake").inputs


def test_a_type_is_read_wherever_it_flows() -> None:
    notice = _notice("{type: MetricSampled}")

    assert [stream.name for stream in notice.inputs] == ["intake", "others"]
    assert [edge.where for edge in notice.edges.values()] == [{MetricSampled: ()}] * 2


def test_a_type_is_not_read_again_from_a_stream_that_is_named_or_written() -> None:
    notice = _notice("[intake, {type: MetricSampled}]")
    assert [stream.name for stream in notice.inputs] == ["intake", "others"]
    assert set(notice.edges) == {"others"}

    heard = WIDE.replace("carries: [AnomalyDetected], key", "carries: [AnomalyDetected, MetricSampled], key")
    text = changed("consumes: intake", "consumes: {type: MetricSampled}", heard)
    stage = resolve(parse(text), load).stage("notice")
    assert [stream.name for stream in stage.inputs] == ["intake", "others"], "its own output would go round for ever"


def test_two_types_of_one_stream_may_have_conditions_of_their_own() -> None:
    entries = (
        "[{stream: intake, types: [MetricSampled], where: payload.value > 1}, {stream: intake, types: [LogWritten]}]"
    )
    edge = _notice(entries).edges["intake"]

    assert edge.where is not None
    assert [condition.text for condition in edge.where[MetricSampled]] == ["payload.value > 1"]
    assert edge.where[LogWritten] == ()


def test_limits_are_part_of_an_edge() -> None:
    edge = _notice("{stream: intake, lag_max: 50, when_full: shed, shed_first: payload.level < 'error'}").edges[
        "intake"
    ]

    assert (edge.lag_max, edge.when_full, edge.where, edge.blocks) == (50, "shed", None, False)
    assert _notice("{stream: intake, lag_max: 50}").edges["intake"].blocks


@pytest.mark.parametrize(
    ("consumes", "message"),
    [
        (
            "{stream: intakes}",
            "wide.yaml:9: error: stages[0].consumes[0].stream: found stage 'notice' reads 'intakes', expected a declared "
            "stream (findings, intake, others); did you mean intake?",
        ),
        (
            "{stream: intake, types: [MetricSampeld]}",
            "wide.yaml:9: error: stages[0].consumes[0].types[0]: found stage 'notice' wants 'MetricSampeld' of 'intake', "
            "expected a type it carries (LogWritten, MetricSampled); did you mean MetricSampled?",
        ),
        (
            "{stream: others, types: [HeartbeatSeen]}",
            "wide.yaml:9: warning: stages[0].consumes[0].types[0]: found stage 'notice' wants HeartbeatSeen of 'others', "
            "and its agent consumes no such type, expected one it consumes (LogWritten, MetricSampled); take it out, or "
            "let the agent consume it",
        ),
        (
            "{type: AlertFired}",
            "wide.yaml:9: error: stages[0].consumes[0].type: found stage 'notice' wants 'AlertFired' wherever it flows, "
            "expected a type that a stream carries which this stage neither names nor writes; name the streams it is to "
            "be read from",
        ),
        (
            "{stream: intake, where: payload.values > 3, types: [MetricSampled]}",
            "wide.yaml:9: error: stages[0].consumes[0].where: found `payload.values`, and MetricSampled has no 'values' "
            "there, expected one of labels, metric, service, system, unit, value; did you mean value?",
        ),
        (
            "{stream: intake, where: payload.value > 3}",
            "wide.yaml:9: error: stages[0].consumes[0].where: found `payload.value`, and LogWritten has no 'value' there, "
            "expected one of labels, level, logger, message, origin, service, system; narrow the edge with `types` to "
            "those that have it, or correct the name",
        ),
        (
            "{stream: intake, lag_max: 9, when_full: shed, shed_last: payload.severity == 'high'}",
            "wide.yaml:9: error: stages[0].consumes[0].shed_last: found `payload.severity`, and LogWritten has no "
            "'severity' there, expected one of labels, level, logger, message, origin, service, system; narrow the edge "
            "with `types` to those that have it, or correct the name",
        ),
        (
            "[{stream: intake, types: [LogWritten]}, {stream: intake, types: [LogWritten]}]",
            "wide.yaml:9: error: stages[0].consumes[1]: found stage 'notice' reads 'intake' a second time, expected every "
            "type of a stream once; remove one of them",
        ),
        (
            "[{stream: intake, types: [LogWritten], lag_max: 9}, {stream: intake, types: [MetricSampled]}]",
            "wide.yaml:9: error: stages[0].consumes[1]: found stage 'notice' reading 'intake' with other limits than "
            "before, expected one lag_max, when_full, shed_first and shed_last for a stream; write the same in both",
        ),
    ],
)
def test_what_cannot_be_subscribed_to_is_told_with_its_line(consumes: str, message: str) -> None:
    assert message in _errors(consumes)


def test_an_entry_that_is_unclear_is_refused_by_its_form() -> None:
    for consumes, message in (
        ("{stream: intake, type: LogWritten}", "expected either `stream` or `type`"),
        ("{stream: intake, when_full: shed}", "expected `lag_max` beside it"),
        ("{stream: intake, lag_max: 3, shed_last: payload.value > 1}", "expected `when_full: shed` beside it"),
        ("{type: LogWritten, types: [LogWritten]}", "expected `types` beside `stream` only"),
        ("{stream: intake, strem: intake}", "did you mean stream?"),
        ("{stream: intake, lag_max: 0}", "expected greater than or equal to 1"),
    ):
        with pytest.raises(Exception, match=r"wide\.yaml:9: error: stages\[0\]\.consumes\[0\]") as refused:
            _resolved(consumes)
        assert message in str(refused.value), str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


def test_streams_read_for_a_type_have_to_be_co_partitioned() -> None:
    text = WIDE.replace("HeartbeatSeen], key: service", "HeartbeatSeen], key: service, partitions: 8")

    [message] = _errors("{type: MetricSampled}", text)
    assert "'intake' (4 partitions by 'service') and 'others' (8 partitions by 'service')" in message


def test_what_is_left_out_by_name_is_a_warning_what_cannot_come_an_error() -> None:
    only = changed("carries: [MetricSampled, LogWritten]", "carries: [MetricSampled]", WIDE)

    assert [each.severity for each in _check(only)] == ["error"]
    text = changed("consumes: intake", "consumes: {type: MetricSampled}", only)
    assert [(each.severity, "LogWritten" in each.found) for each in _check(text)] == [("warning", True)]


def test_stages_that_let_each_other_wait_for_ever_are_an_error() -> None:
    round_trip = TEXT.replace(
        "emits: incidents",
        "emits: incidents\n  - {id: ponder, agent: tiny:Ponder, consumes: {stream: incidents, lag_max: 9}, emits: findings}",
    )
    assert not [each for each in check(parse(round_trip), load) if each.severity == "error"]

    text = changed("consumes: [findings]", "consumes: {stream: findings, lag_max: 9}", round_trip)
    [defect] = [each for each in check(parse(text), load) if each.severity == "error"]
    assert defect.found == (
        "a loop of stages that let each other wait: gather -> [incidents] -> ponder -> [findings] -> gather"
    )
    shedding = text.replace("{stream: findings, lag_max: 9}", "{stream: findings, lag_max: 9, when_full: shed}")
    assert not [each for each in check(parse(shedding), load) if each.severity == "error"]


def test_what_an_edge_lets_through_is_part_of_the_picture() -> None:
    topology = _resolved(
        "[{stream: intake, types: [LogWritten], where: payload.level >= 'error', lag_max: 5000},"
        " {stream: others, lag_max: 9, when_full: shed, shed_first: payload.value < 1, shed_last: payload.value > 7}]"
    )

    assert """\
      <-- intake: LogWritten
          LogWritten where payload.level >= 'error'
          when more than 5,000 wait in a partition, its writers wait
      <-- others: MetricSampled
          when more than 9 wait in a partition, the oldest are shed, first where payload.value < 1, last where payload.value > 7
      --> findings: AnomalyDetected
""" in describe(topology)
    assert "    stream_intake -->|LogWritten| stage_notice\n    stream_others --> stage_notice" in mermaid(topology)


class Curious(
    Agent[OutcomeVerified | AnomalyDetected | ActionFinished | IncidentOpened | ExperienceRecorded, PatternMatched]
):
    """Wants all that the README's example is about."""


def test_the_example_in_the_readme_is_right() -> None:
    root = Path(__file__).parents[2]
    [example] = re.findall(r"^( +consumes:\n(?: +- .*\n){2,})", (root / "README.md").read_text(), re.MULTILINE)
    shipped = (root / "topology" / "incident_loop.yaml").read_text()
    streams = shipped[shipped.index("streams:") : shipped.index("stages:")]
    stage = "  - id: curious\n    agent: readme:Curious\n    emits: findings\n"

    found = parse(f"name: readme\n{streams}\nstages:\n{stage}{example}", "readme.yaml")
    curious = resolve(found, lambda _: Curious).stage("curious")

    assert [stream.name for stream in curious.inputs] == ["outcomes", "findings", "actions", "incidents", "lessons"]
    assert curious.edges["lessons"].shed_last is not None
    assert curious.edges["incidents"].blocks


def test_a_stage_is_as_urgent_as_the_most_urgent_stream_it_reads() -> None:
    text = WIDE.replace("HeartbeatSeen], key: service", "HeartbeatSeen], key: service, priority: high")

    assert [
        resolve(parse(changed("consumes: intake", f"consumes: {names}", text)), load).stage("notice").urgency
        for names in ("intake", "[intake, others]")
    ] == [1, 2]
