"""A topology whose agents are found and whose edges fit: what an engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from topology.agent import Agent, AgentConfig
from topology.condition import Condition
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
    def stored(self) -> bool:
        """Whether it lies on the mesh; otherwise it is passed on within the task of two stages."""
        return self.spec.stored

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


Priority = Literal["low", "normal", "high"]
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
"""The later the sooner."""


@dataclass(frozen=True, slots=True)
class Edge:
    """How a stage takes one of its inputs, where that is not simply everything it consumes.

    Attributes:
        where: the payload classes that are taken, each with conditions of which one must hold; with none, every event of
            it is taken.  None for whatever the agent consumes.
        lag_max: how many events may wait in a partition before ``when_full`` applies; None for any number.
        shed_first: what is shed before everything else.
        shed_last: what is shed only when all else is not enough.
    """

    where: Mapping[type[Payload], tuple[Condition, ...]] | None = None
    lag_max: int | None = None
    when_full: Literal["block", "shed"] = "block"
    shed_first: Condition | None = None
    shed_last: Condition | None = None

    @property
    def blocks(self) -> bool:
        """Whether those who write the stream have to wait for this stage."""
        return self.lag_max is not None and self.when_full == "block"


@dataclass(frozen=True, slots=True)
class Stage:
    """One agent class with its settings, its input streams, and where each of its outputs goes.

    Attributes:
        edges: how inputs are taken that are not simply read, by the stream's name.
        next: the stage that takes what this one passes on in memory, and runs in its task.
    """

    spec: StageSpec
    agent_class: type[Agent[Any, Any]]
    config: AgentConfig
    inputs: tuple[Stream, ...]
    routes: Mapping[type[Payload], Stream]
    edges: Mapping[str, Edge] = field(default_factory=dict)
    next: Stage | None = None

    @property
    def chain(self) -> tuple[Stage, ...]:
        """This stage, and those that follow it in its task."""
        return (self,) if self.next is None else (self, *self.next.chain)

    @property
    def begins_task(self) -> bool:
        """Whether it reads from the mesh, and so has tasks, leases and commits of its own name."""
        return all(stream.stored for stream in self.inputs)

    @property
    def id(self) -> str:
        """The name of the stage's state and offsets."""
        return self.spec.id

    @property
    def partitions(self) -> int:
        """Inputs are co-partitioned, so they all have this many."""
        return self.inputs[0].partitions

    @property
    def urgency(self) -> int:
        """The rank of the most urgent stream it reads; the higher the sooner."""
        return max(PRIORITIES.index(stream.spec.priority) for stream in self.inputs)

    @property
    def wanted_types(self) -> frozenset[str]:
        """Event types worth decoding for this stage."""
        return frozenset(payload.event_type for payload in self.agent_class.consumes) & self.let_through

    @property
    def let_through(self) -> frozenset[str]:
        """Event types that come in by some input, whether the agent consumes them or not; ticks come by any."""
        edges = [(stream, self.edges.get(stream.name, Edge()).where) for stream in self.inputs]
        taken = [stream.carries if where is None else frozenset(where) for stream, where in edges]
        return frozenset(payload.event_type for payload in frozenset({TickPassed}).union(*taken))

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

    @property
    def tasks(self) -> tuple[Stage, ...]:
        """The stages that begin a task; the others run within them (:attr:`Stage.chain`)."""
        return tuple(stage for stage in self.stages if stage.begins_task)

    @property
    def stored(self) -> tuple[Stream, ...]:
        """The streams that lie on the mesh."""
        return tuple(stream for stream in self.streams.values() if stream.stored)

    def task_of(self, stage_id: str) -> Stage:
        """The stage within whose task a stage runs: mostly itself; KeyError when there is no such stage."""
        for stage in self.tasks:
            if any(each.id == stage_id for each in stage.chain):
                return stage
        raise KeyError(stage_id)

    def consumers_of(self, stream: str) -> tuple[Stage, ...]:
        """The stages that read a stream."""
        return tuple(stage for stage in self.stages if any(s.name == stream for s in stage.inputs))
