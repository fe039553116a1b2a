"""Rules about single edges: does what a stage reads and writes fit the streams it is declared with?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from topology.defects import Defect, show_names
from topology.draft import Draft, DraftStage
from topology.event import Payload
from topology.graph import Stream
from topology.payloads.operation import TickPassed


def edge_defects(draft: Draft) -> Iterator[Defect]:
    """Every edge that does not fit; each message names both of its ends."""
    yield from _keys(draft)
    for stage in draft.stages:
        yield from _co_partitioning(draft, stage)
        yield from _registration(draft, stage)
        yield from _consumed(draft, stage)
        yield from _emitted(draft, stage)
        yield from _idle_edges(draft, stage)


def _keys(draft: Draft) -> Iterator[Defect]:
    for name, stream in draft.streams.items():
        key = stream.spec.key
        without = [payload for payload in stream.carries if key not in payload.model_fields]
        if without:
            common = set.intersection(*(set(payload.model_fields) for payload in stream.carries))
            yield draft.places.defect(
                ("streams", name, "key"),
                found=f"stream {name!r} keyed by {key!r}, a field that {_names(without)} does not have",
                expected="a field of every payload the stream carries",
                remedy=f"key it by one of: {show_names(common)}; or carry {_names(without)} on another stream",
            )


def _co_partitioning(draft: Draft, stage: DraftStage) -> Iterator[Defect]:
    for one, other in pairwise(stage.inputs):
        if one.partitions != other.partitions:
            remedy = "give both the same number of partitions"
        elif one.spec.key != other.spec.key:
            remedy = "key both by the same field"
        else:
            continue
        yield draft.places.defect(
            (*stage.path, "consumes"),
            found=f"stage {stage.id!r} reads {_layout(one)} and {_layout(other)}",
            expected="co-partitioned inputs: what belongs to one key must meet in one partition",
            remedy=remedy,
        )


def _registration(draft: Draft, stage: DraftStage) -> Iterator[Defect]:
    if stage.agent_class is None:
        return
    for payload in _sorted(stage.agent_class.consumes | stage.agent_class.emits):
        if "event_type" not in vars(payload):
            yield draft.places.defect(
                (*stage.path, "agent"),
                found=f"agent {stage.spec.agent} of stage {stage.id!r} naming {payload.__name__}, which is no event type",
                expected="registered payload classes only",
                remedy="name the event types themselves, joined with `|`, or register it with @event_type",
            )


def _consumed(draft: Draft, stage: DraftStage) -> Iterator[Defect]:
    if stage.agent_class is None or not _inputs_known(draft, stage):
        return
    chosen = any(entry.type or entry.types for entry in stage.spec.inputs)
    inputs = ", ".join(repr(stream.name) for stream in stage.inputs)
    for wanted in _sorted(stage.agent_class.consumes):
        if wanted is TickPassed:
            if not any(stream.spec.ticks for stream in stage.inputs):
                yield draft.places.defect(
                    (*stage.path, "consumes"),
                    found=f"stage {stage.id!r} waiting for ticks, and none on its input {inputs}",
                    expected="an input stream that has ticks",
                    remedy=f"give {inputs} `ticks: 1s`",
                )
        elif "event_type" in vars(wanted) and not any(wanted in stream.carries for stream in stage.inputs):
            carriers = [name for name, stream in draft.streams.items() if wanted in stream.carries]
            remedy = f"let it also consume {_one_of(carriers)}, or " if carriers else ""
            yield draft.places.defect(
                (*stage.path, "consumes"),
                found=f"stage {stage.id!r} ({stage.spec.agent}) consuming {wanted.__name__}, and reading only {inputs}",
                expected=f"an input stream that carries {wanted.__name__}",
                remedy=f"{remedy}add {wanted.__name__} to what {inputs} carries",
                severity="warning" if chosen else "error",  # who names types may mean to leave others out
            )


def _emitted(draft: Draft, stage: DraftStage) -> Iterator[Defect]:
    if stage.agent_class is None or not _fully_known(draft, stage.spec.emits):
        return
    outputs = ", ".join(repr(stream.name) for stream in stage.outputs) or "no stream"
    for emitted in _sorted(stage.agent_class.emits):
        if "event_type" not in vars(emitted):
            continue
        ways = stage.outputs_for(emitted)
        if not ways:
            carriers = [name for name, stream in draft.streams.items() if emitted in stream.carries]
            remedy = f"let it also emit to {_one_of(carriers)}" if carriers else f"add {emitted.__name__} to a stream"
            yield draft.places.defect(
                (*stage.path, "emits"),
                found=f"stage {stage.id!r} ({stage.spec.agent}) emitting {emitted.__name__}, and writing to {outputs}",
                expected=f"an output stream that carries {emitted.__name__}",
                remedy=remedy,
            )
        elif len(ways) > 1:
            yield draft.places.defect(
                (*stage.path, "emits"),
                found=f"stage {stage.id!r} with {len(ways)} ways out for {emitted.__name__} "
                f"({', '.join(repr(stream.name) for stream in ways)})",
                expected="exactly one",
                remedy=f"let only one of its outputs carry {emitted.__name__}",
            )


def _idle_edges(draft: Draft, stage: DraftStage) -> Iterator[Defect]:
    """Edges that are allowed, but over which nothing will ever go."""
    agent = stage.agent_class
    if agent is None or not (_inputs_known(draft, stage) and _fully_known(draft, stage.spec.emits)):
        return
    for stream in stage.inputs:
        ticking = TickPassed in agent.consumes and stream.spec.ticks is not None
        if not ticking and stage.takes(stream).isdisjoint(agent.consumes):
            yield draft.places.defect(
                (*stage.path, "consumes"),
                found=f"stage {stage.id!r} reading {stream.name!r}, which carries nothing it consumes",
                expected=f"a stream with {_names(agent.consumes)}",
                remedy=f"take {stream.name!r} from its `consumes`",
                severity="warning",
            )
    for stream in stage.outputs:
        if stream.carries.isdisjoint(agent.emits):
            yield draft.places.defect(
                (*stage.path, "emits"),
                found=f"stage {stage.id!r} writing to {stream.name!r}, which carries nothing it emits",
                expected=f"a stream with {_names(agent.emits)}",
                remedy=f"take {stream.name!r} from its `emits`",
                severity="warning",
            )


def _inputs_known(draft: Draft, stage: DraftStage) -> bool:
    """Whether nothing is missing from what the stage reads, which would have been told already."""
    around = (*stage.path, "consumes")
    if any(defect.path[: len(around)] == around and defect.severity == "error" for defect in draft.defects):
        return False
    by_type = any(entry.type for entry in stage.spec.inputs)
    return _fully_known(draft, draft.streams if by_type else [stream.name for stream in stage.inputs])


def _fully_known(draft: Draft, names: Collection[str]) -> bool:
    """Whether all these streams, and all they carry, could be found: if not, that was told already."""
    return all(
        name in draft.streams and len(draft.streams[name].carries) == len(set(draft.streams[name].spec.carries))
        for name in names
    )


def _layout(stream: Stream) -> str:
    return f"{stream.name!r} ({stream.partitions} partitions by {stream.spec.key!r})"


def _one_of(names: Collection[str]) -> str:
    return " or ".join(repr(name) for name in names)


def _names(types: Collection[type[Payload]]) -> str:
    return show_names(payload.__name__ for payload in types)


def _sorted(types: Collection[type[Payload]]) -> list[type[Payload]]:
    return sorted(types, key=lambda payload: payload.__name__)
