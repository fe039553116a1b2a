"""Chapter 3. A stage is an agent at a place in the flow: events in, payloads out. The engine does the rest."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pipeline.engine.drive import Driver
from tests.tour.small_world import declared, said
from topology import Agent, AgentConfig, Event, World
from topology.defects import BrokenTopologyError
from topology.ids import derived_id
from topology.payloads import AnomalyDetected, LogWritten

YAML = """
name: tour
streams:
  intake: {carries: [LogWritten], key: service}
  findings: {carries: [AnomalyDetected], key: system}
stages:
  - id: find-words
    agent: here:FindWord
    consumes: intake
    emits: findings
    config: {word: refused}
"""


class FindWordConfig(AgentConfig):
    word: str


class FindWord(Agent[LogWritten, AnomalyDetected]):
    """Says which lines have a word in them."""

    Config = FindWordConfig

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        line = event.payload
        if self.config.word in line.message:
            yield AnomalyDetected(service=line.service, system=line.system, kind="log.word", summary=line.message)


async def test_an_agent_concludes_payloads_and_the_engine_makes_events_of_them() -> None:
    driver = Driver(declared(YAML, FindWord))
    cause = said("payment refused")

    await driver.publish("intake", [said("payment taken"), cause])
    await driver.run_until_idle()

    [finding] = await driver.events("findings")
    assert isinstance(finding.payload, AnomalyDetected)
    assert finding.payload.summary == "payment refused"
    assert finding.source == "find-words", "the stage says so"
    assert finding.causation_id == cause.id, "because of this"
    assert finding.timestamp == cause.timestamp, "it is about then"
    assert finding.id == derived_id(cause.id, "find-words", 0), "a replay gives the same id"


def test_what_does_not_fit_together_is_found_before_anything_runs() -> None:
    with pytest.raises(
        BrokenTopologyError, match=r"topology:11: error: stages\[0\].config.wrod: .* did you mean word\?"
    ):
        declared(YAML.replace("word: refused", "wrod: refused"), FindWord)
    with pytest.raises(BrokenTopologyError, match="AnomalyDetected"):
        declared(YAML.replace("emits: findings", "emits: intake"), FindWord)
