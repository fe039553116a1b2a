"""A tiny topology with agents of its own, for tests of what declares, checks and shows topologies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from topology.agent import Agent, AgentConfig, World
from topology.event import Event
from topology.payloads import AnomalyDetected, Finding, IncidentOpened, LogWritten, MetricSampled, TickPassed
from topology.spec import SolutionSpec, SystemSpec


class NoticeConfig(AgentConfig):
    value_max: float = 10.0
    systems: Mapping[str, SystemSpec] = {}


class Notice(Agent[MetricSampled | LogWritten, AnomalyDetected]):
    Config = NoticeConfig

    def process(self, event: Event[MetricSampled | LogWritten], world: World) -> Iterable[AnomalyDetected]:
        yield AnomalyDetected(service=event.payload.service, system=event.payload.system, kind="seen")


class GatherConfig(AgentConfig):
    solutions: tuple[SolutionSpec, ...] = ()


class Gather(Agent[AnomalyDetected | TickPassed, IncidentOpened]):
    Config = GatherConfig


class Ponder(Agent[IncidentOpened, AnomalyDetected]):
    """Closes the circle: what it emits leads back to its own input."""


class Collect(Agent[AnomalyDetected, IncidentOpened]):
    """As `Gather`, without a need for ticks."""


class Vague(Agent[Finding | TickPassed, IncidentOpened]):
    """Consumes a class that only its children are event types of."""


AGENTS: Mapping[str, object] = {
    "tiny:Notice": Notice,
    "tiny:Gather": Gather,
    "tiny:Ponder": Ponder,
    "tiny:Collect": Collect,
    "tiny:Vague": Vague,
    "tiny:Other": dict,
}

TEXT = """\
name: tiny
streams:
  intake: {carries: [MetricSampled, LogWritten], key: service}
  findings: {carries: [AnomalyDetected], key: system, ticks: 1s}
  incidents: {carries: [IncidentOpened], key: system}
stages:
  - id: notice
    agent: tiny:Notice
    consumes: intake
    emits: findings
    config: {value_max: 3}
  - id: gather
    agent: tiny:Gather
    consumes: [findings]
    emits: incidents
systems:
  shop: {services: {web: {depends_on: [store]}, store: {}}}
solutions:
  - {id: restart, title: Restart, executor: process, operation: restart}
"""


def load(name: str) -> object:
    """The agents above by name, failing as an import would."""
    if name not in AGENTS:
        msg = f"No module named {name.partition(':')[0]!r}"
        raise ImportError(msg)
    return AGENTS[name]


def changed(old: str, new: str, text: str = TEXT) -> str:
    """The text with one place changed; fails when the place is not there exactly once."""
    assert text.count(old) == 1, (old, text.count(old))
    return text.replace(old, new)
