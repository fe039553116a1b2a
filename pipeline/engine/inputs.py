"""What a stage reads: which partitions, and which of the events in them are worth decoding."""

from __future__ import annotations

from pipeline.engine.attempt import overrides
from pipeline.engine.mesh import within
from pipeline.engine.outputs import OPERATION_STREAMS
from pipeline.engine.record import Place
from topology.graph import Stage, Stream, Topology
from topology.payloads.collaboration import HelpRequested
from topology.payloads.lessons import ExperienceRecorded


def inputs_of(stage: Stage, partition: int) -> list[Place]:
    """The partitions a task of the stage reads: the same number of every input, since they are co-partitioned."""
    return [(stream.name, partition) for stream in stage.inputs]


def partitions_of(topology: Topology) -> dict[str, int]:
    """How many partitions everything has whose keys must stay where they are: what a mesh is told (``Mesh.declare``).

    For a stage that runs in the task of another one it is no number of partitions, but says where its state is.
    """
    streams = [*topology.stored, *OPERATION_STREAMS]
    counts = dict(map(stream_partitions, streams))
    for head in topology.tasks:
        counts[f"stage {head.id}"] = head.partitions
        counts.update((f"stage {each.id}", within(head.id)) for each in head.chain[1:])
    return counts


def stream_partitions(stream: Stream) -> tuple[str, int]:
    """The same of one stream."""
    return f"stream {stream.name}", stream.partitions


def wanted_types(stage: Stage) -> frozenset[str]:
    """The event types worth decoding for a stage: what its agent consumes and its inputs let through."""
    wanted = {payload.event_type for payload in stage.agent_class.consumes}
    if overrides(stage.agent_class, "learn"):
        wanted.add(ExperienceRecorded.event_type)
    if overrides(stage.agent_class, "offer_help"):
        wanted.add(HelpRequested.event_type)
    return frozenset(wanted) & stage.let_through if stage.edges else frozenset(wanted)
