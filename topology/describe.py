"""A topology for people: as text, and as a Mermaid flowchart.

Both depend on nothing but the topology, so that a picture in a document can be compared with what it shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from textwrap import wrap

from topology.durations import show_duration
from topology.event import Payload
from topology.graph import Edge, Stage, Stream, Topology
from topology.payloads.operation import TickPassed

LINE_LENGTH = 120


def describe(topology: Topology) -> str:
    """Every stream with what it carries, every stage with what it takes from where and puts where."""
    streams = [line for stream in topology.streams.values() for line in _stream_lines(stream)]
    stages = [line for stage in topology.stages for line in _stage_lines(stage)]
    head = f"Topology {topology.name}: {_count(topology.streams, 'stream')}, {_count(topology.stages, 'stage')}"
    return "\n".join([head, "", "Streams", *streams, "", "Stages", *stages, ""])


def mermaid(topology: Topology) -> str:
    """A Mermaid flowchart: streams as cylinders, stages as boxes grouped by the package of their agents."""
    lines = ["flowchart LR"]
    lines += [f'    {_stream_node(stream)}[("{stream.name}")]' for stream in topology.streams.values()]
    for area in dict.fromkeys(_area(stage) for stage in topology.stages):
        nodes = [f'{_stage_node(stage)}["{stage.id}"]' for stage in topology.stages if _area(stage) == area]
        if area:
            lines += [f"    subgraph {area}", *(f"        {node}" for node in nodes), "    end"]
        else:
            lines += [f"    {node}" for node in nodes]
    for stage in topology.stages:
        lines += [f"    {_stream_node(s)} {_arrow(stage, s)} {_stage_node(stage)}" for s in stage.inputs]
        lines += [f"    {_stage_node(stage)} --> {_stream_node(stream)}" for stream in _outputs(stage)]
    return "\n".join([*lines, ""])


def _stream_lines(stream: Stream) -> Iterator[str]:
    traits = [f"key {stream.spec.key}", _count(range(stream.partitions), "partition")]
    if stream.spec.ticks:
        traits.append(f"ticks every {show_duration(stream.spec.ticks)}")
    if stream.spec.retain:
        traits.append(f"kept {show_duration(stream.spec.retain)}{', then archived' if stream.spec.archive else ''}")
    if stream.spec.priority != "normal":
        traits.append(f"{stream.spec.priority} priority")
    yield f"  {stream.name} ({', '.join(traits)})"
    yield from _wrapped("      ", _names(stream.carries))


def _stage_lines(stage: Stage) -> Iterator[str]:
    yield f"  {stage.id} ({stage.spec.agent})"
    for stream in stage.inputs:
        edge = stage.edges.get(stream.name, Edge())
        taken = stage.agent_class.consumes & (stream.carries if edge.where is None else frozenset(edge.where))
        ticks = stage.agent_class.consumes & {TickPassed} if stream.spec.ticks else frozenset()
        yield from _wrapped(f"      <-- {stream.name}: ", _names(taken | ticks))
        yield from (f"          {line}" for line in _edge_lines(edge, taken))
    for stream in _outputs(stage):
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


def _arrow(stage: Stage, stream: Stream) -> str:
    where = stage.edges.get(stream.name, Edge()).where
    taken = stage.agent_class.consumes & frozenset(where or ())
    return "-->" if where is None or taken == stage.agent_class.consumes & stream.carries else f"-->|{_names(taken)}|"


def _outputs(stage: Stage) -> list[Stream]:
    """The streams a stage writes, in declared order."""
    targets = {stream.name: stream for stream in stage.routes.values()}
    return [targets[name] for name in stage.spec.emits if name in targets]


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


def _area(stage: Stage) -> str:
    """The folder the agent's module lies in: ``monitor`` of ``agents.monitor.health``; empty when it lies in none."""
    module = stage.spec.agent.partition(":")[0].split(".")
    return module[-2] if len(module) > 2 else ""


def _stream_node(stream: Stream) -> str:
    return f"stream_{_node(stream.name)}"


def _stage_node(stage: Stage) -> str:
    return f"stage_{_node(stage.id)}"


def _node(name: str) -> str:
    return name.replace("-", "_").replace(".", "_dot_")
