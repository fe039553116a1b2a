"""A topology whose agents are found and whose edges fit: what an engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topology.agent import Agent, AgentConfig
from topology.event import Payload
from topology.moments import span_us
from topology.payloads.operation import TickPassed
from topology.spec import StageSpec, StreamSpec


@dataclass(frozen=True, slots=True)
class Stream:
    """A named, typed, keyed, partitioned sequence of events."""

    name: str
    carries: frozenset[type[Payload]]
    spec: StreamSpec

    @property
    def partitions(self) -> int:
        """How many partitions; a key always falls into the same one."""
        return self.spec.partitions

    @property
    def ticks_us(self) -> int | None:
        """The time between two ticks, where the stream has them."""
        return span_us(self.spec.ticks) if self.spec.ticks else None

    def key_of(self, payload: Payload) -> str:
        """The value that decides the partition and within which order holds."""
        return str(getattr(payload, self.spec.key))

    def accepts(self, payload_type: type[Payload]) -> bool:
        """Whether events of this type may be put on the stream."""
        return payload_type in self.carries or payload_type is TickPassed


@dataclass(frozen=True, slots=True)
class Stage:
    """One agent class with its settings, its input streams, and where each of its outputs goes."""

    spec: StageSpec
    agent_class: type[Agent[Any, Any]]
    config: AgentConfig
    inputs: tuple[Stream, ...]
    routes: Mapping[type[Payload], Stream]

    @property
    def id(self) -> str:
        """The name of the stage's state and offsets."""
        return self.spec.id

    @property
    def partitions(self) -> int:
        """Inputs are co-partitioned, so they all have this many."""
        return self.inputs[0].partitions

    @property
    def wanted_types(self) -> frozenset[str]:
        """Event types worth decoding for this stage."""
        return frozenset(payload.event_type for payload in self.agent_class.consumes)

    def new_agent(self) -> Agent[Any, Any]:
        """A fresh agent with empty tables, for one partition."""
        return self.agent_class(self.config)


@dataclass(frozen=True, slots=True)
class Topology:
    """Immutable; stages in declared order."""

    name: str
    streams: Mapping[str, Stream]
    stages: tuple[Stage, ...]

    def stage(self, stage_id: str) -> Stage:
        """The stage of an id; KeyError when there is none."""
        for stage in self.stages:
            if stage.id == stage_id:
                return stage
        raise KeyError(stage_id)

    def consumers_of(self, stream: str) -> tuple[Stage, ...]:
        """The stages that read a stream."""
        return tuple(stage for stage in self.stages if any(s.name == stream for s in stage.inputs))
