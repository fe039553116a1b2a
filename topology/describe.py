"""A topology in words: what every stream carries, what every stage takes from where and puts where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from textwrap import wrap

from topology.durations import show_duration
from topology.event import Payload
from topology.graph import Edge, Stage, Stream, Topology
from topology.payloads.operation import TickPassed
from topology.picture import outputs_of, taken_by

LINE_LENGTH = 120


def describe(topology: Topology) -> str:
    """Every stream with what it carries, every stage with what it takes from where and puts where."""
    streams = [line for stream in topology.streams.values() for line in _stream_lines(stream)]
    stages = [line for stage in topology.stages for line in _stage_lines(stage)]
    head = f"Topology {topology.name}: {_count(topology.streams, 'stream')}, {_count(topology.stages, 'stage')}"
    return "\n".join([head, "", "Streams", *streams, "", "Stages", *stages, ""])


def _stream_lines(stream: Stream) -> Iterator[str]:
    traits = [f"key {stream.spec.key}", _count(range(stream.partitions), "partition")]
    if stream.spec.ticks:
        traits.append(f"ticks every {show_duration(stream.spec.ticks)}")
    if stream.spec.retain:
        traits.append(f"kept {show_duration(stream.spec.retain)}{', then archived' if stream.spec.archive else ''}")
    if stream.spec.priority != "normal":
        traits.append(f"{stream.spec.priority} priority")
    if not stream.stored:
        traits.append("in memory only")
    yield f"  {stream.name} ({', '.join(traits)})"
    yield from _wrapped("      ", _names(stream.carries))


def _stage_lines(stage: Stage) -> Iterator[str]:
    yield f"  {stage.id} ({stage.spec.agent})"
    if stage.begins_task and stage.next is not None:
        yield f"      runs in one task with {', '.join(other.id for other in stage.chain[1:])}"
    for stream in stage.inputs:
        edge = stage.edges.get(stream.name, Edge())
        taken = taken_by(stage, stream)
        ticks = stage.agent_class.consumes & {TickPassed} if stream.spec.ticks else frozenset()
        yield from _wrapped(f"      <-- {stream.name}: ", _names(taken | ticks))
        yield from (f"          {line}" for line in _edge_lines(edge, taken))
    for stream in outputs_of(stage):
        put = [payload for payload, target in stage.routes.items() if target is stream]
        yield from _wrapped(f"      --> {stream.name}: ", _names(put))
    for name in sorted(declared.name for declared in stage.agent_class.state_declarations().values()):
        yield f"      remembers {name}"


def _edge_lines(edge: Edge, taken: Iterable[type[Payload]]) -> Iterator[str]:
    """What narrows an input, and what happens when the stage falls behind there."""
    for text in sorted({each.text for payload in taken for each in (edge.where or {}).get(payload, ())}):
        only = [payload for payload in taken if any(each.text == text for each in (edge.where or {})[payload])]
        yield f"{_names(only)} where {text}"
    if edge.lag_max is not None:
        then = "its writers wait" if edge.when_full == "block" else "the oldest are shed"
        first = f", first where {edge.shed_first.text}" if edge.shed_first else ""
        last = f", last where {edge.shed_last.text}" if edge.shed_last else ""
        yield f"when more than {edge.lag_max:,} wait in a partition, {then}{first}{last}"


def _wrapped(head: str, text: str) -> list[str]:
    return wrap(
        text or "nothing",
        LINE_LENGTH,
        initial_indent=head,
        subsequent_indent="          ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _names(types: Iterable[type[Payload]]) -> str:
    return ", ".join(sorted(payload.__name__ for payload in types))


def _count(things: Collection[object], name: str) -> str:
    return f"{len(things)} {name}" if len(things) == 1 else f"{len(things)} {name}s"
