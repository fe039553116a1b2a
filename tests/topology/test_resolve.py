"""A declaration becomes a graph: classes found, settings validated, every output routed to one stream."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.topology.loop_of_three import TEXT, Gather, Notice, changed, load
from topology.defects import BrokenTopologyError
from topology.graph import Topology
from topology.parse import parse
from topology.payloads import AnomalyDetected, HeartbeatSeen, IncidentOpened, LogWritten, MetricSampled, TickPassed
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, SystemSpec, TopologySpec


def _resolved(text: str = TEXT) -> Topology:
    return resolve(parse(text, "tiny.yaml"), load)


def test_streams_carry_classes() -> None:
    intake = _resolved().streams["intake"]

    assert intake.carries == {MetricSampled, LogWritten}
    assert intake.accepts(LogWritten)
    assert intake.accepts(TickPassed)
    assert not intake.accepts(HeartbeatSeen)


def test_a_stream_knows_its_key_its_partitions_and_its_ticks() -> None:
    streams = _resolved().streams

    assert streams["intake"].key_of(LogWritten(service="web", system="shop", message="hi")) == "web"
    assert streams["findings"].key_of(AnomalyDetected(service="web", system="shop", kind="x")) == "shop"
    assert (streams["findings"].partitions, streams["findings"].ticks_us) == (4, 1_000_000)
    assert streams["intake"].ticks_us is None


def test_stages_stay_in_declared_order_and_know_what_they_read() -> None:
    topology = _resolved()

    assert [stage.id for stage in topology.stages] == ["notice", "gather"]
    assert [stage.id for stage in topology.consumers_of("findings")] == ["gather"]
    assert topology.stage("notice").wanted_types == {"metric.sampled", "log.written"}
    assert topology.stage("notice").partitions == 4
    with pytest.raises(KeyError):
        topology.stage("nobody")


def test_every_output_has_its_one_stream() -> None:
    topology = _resolved()

    assert {payload: stream.name for payload, stream in topology.stage("notice").routes.items()} == {
        AnomalyDetected: "findings"
    }
    assert topology.stage("gather").routes[IncidentOpened].name == "incidents"


def test_the_agent_gets_its_settings() -> None:
    agent = _resolved().stage("notice").new_agent()

    assert isinstance(agent, Notice)
    assert agent.config.value_max == 3.0


def test_shared_sections_go_to_agents_that_have_a_field_for_them() -> None:
    topology = _resolved()

    assert topology.stage("notice").new_agent().config.systems["shop"].services["web"].depends_on == ("store",)
    assert [solution.id for solution in topology.stage("gather").new_agent().config.solutions] == ["restart"]


def test_what_a_stage_says_itself_wins_over_the_shared_section() -> None:
    text = changed("{value_max: 3}", "{systems: {own: {}}}")

    assert _resolved(text).stage("notice").new_agent().config.systems == {"own": SystemSpec()}


def test_a_topology_can_be_built_in_python() -> None:
    spec = TopologySpec(
        name="embedded",
        streams={
            "intake": StreamSpec(carries=("MetricSampled", "LogWritten")),
            "findings": StreamSpec(carries=("AnomalyDetected",), key="system", ticks=timedelta(seconds=5)),
        },
        stages=(StageSpec(id="notice", agent="tiny:Notice", consumes=("intake",), emits=("findings",)),),
    )

    assert resolve(spec, load).stage("notice").agent_class is Notice


def test_what_was_built_in_python_is_refused_without_lines() -> None:
    spec = TopologySpec(name="empty", streams={}, stages=(StageSpec(id="a", agent="tiny:Gather", consumes=("b",)),))

    with pytest.raises(
        BrokenTopologyError, match=r"^empty: error: stages\[0\].consumes\[0\]: found stage 'a' reads 'b'"
    ):
        resolve(spec, load)


def test_a_broken_topology_is_refused_with_every_error() -> None:
    text = changed("emits: findings", "emits: finding", changed("agent: tiny:Gather", "agent: tiny:Gone"))

    with pytest.raises(BrokenTopologyError) as refusal:
        _resolved(text)

    assert [defect.line for defect in refusal.value.defects] == [10, 13]


def test_warnings_are_no_reason_to_refuse() -> None:
    text = changed("stages:", "  spare: {carries: [AnomalyDetected], key: system}\nstages:")

    assert "spare" in _resolved(text).streams


def test_every_partition_gets_an_agent_of_its_own() -> None:
    stage = _resolved().stage("gather")

    assert isinstance(stage.new_agent(), Gather)
    assert stage.new_agent() is not stage.new_agent()
