"""A topology as a graph to draw: streams and stages as nodes, who reads and writes what as arrows; as Mermaid, DOT or data.

It depends on nothing but the topology, so that a picture in a document can be compared with what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from topology.event import Payload
from topology.graph import Edge, Stage, Stream, Topology
from topology.payloads.operation import TickPassed


@dataclass(frozen=True, slots=True)
class Node:
    """A stream or a stage.

    Attributes:
        area: the folder of a stage's agent; empty when it lies in none.
        stored: False for a stream that is passed on in memory only.
    """

    kind: Literal["stream", "stage"]
    name: str
    area: str = ""
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Arrow:
    """Events of these types go from a stream to a stage that reads it, or from a stage to a stream it writes.

    Attributes:
        types: payload classes by name.
        narrowed: the stage takes less of the stream than its agent consumes.
    """

    origin: Node
    target: Node
    types: tuple[str, ...]
    narrowed: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to draw, in declared order."""

    name: str
    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]


def picture_of(topology: Topology) -> Picture:
    """The nodes and arrows of a topology."""
    streams = {name: Node("stream", name, stored=each.stored) for name, each in topology.streams.items()}
    stages = {stage.id: Node("stage", stage.id, _area(stage)) for stage in topology.stages}
    arrows = [
        arrow
        for stage in topology.stages
        for arrow in (*_read(stage, stages[stage.id], streams), *_written(stage, stages[stage.id], streams))
    ]
    return Picture(topology.name, (*streams.values(), *stages.values()), tuple(arrows))


def mermaid(topology: Topology) -> str:
    """A Mermaid flowchart: streams as cylinders, stages as boxes grouped by the package of their agents.

    What is passed on in memory only is a pill.
    """
    picture = picture_of(topology)
    lines = ["flowchart LR"]
    for area, nodes in _by_area(picture.nodes):
        shown = [_mermaid_node(node) for node in nodes]
        lines += (
            [f"    subgraph {area}", *(f"        {node}" for node in shown), "    end"]
            if area
            else [f"    {node}" for node in shown]
        )
    for arrow in picture.arrows:
        line = f"-->|{', '.join(arrow.types)}|" if arrow.narrowed else "-->"
        lines.append(f"    {_mermaid_id(arrow.origin)} {line} {_mermaid_id(arrow.target)}")
    return "\n".join([*lines, ""])


def dot(topology: Topology) -> str:
    """The same in the language of Graphviz: ``aiops topology graph --format dot | dot -Tsvg``."""
    picture = picture_of(topology)
    lines = [f'digraph "{picture.name}" {{', "    rankdir=LR;"]
    for area, nodes in _by_area(picture.nodes):
        shown = [f'"{_dot_id(node)}" [label="{node.name}", shape={_dot_shape(node)}];' for node in nodes]
        if area:
            lines += [
                f'    subgraph "cluster_{area}" {{',
                f'        label="{area}";',
                *(f"        {n}" for n in shown),
                "    }",
            ]
        else:
            lines += [f"    {node}" for node in shown]
    for arrow in picture.arrows:
        label = f' [label="{", ".join(arrow.types)}"]' if arrow.narrowed else ""
        lines.append(f'    "{_dot_id(arrow.origin)}" -> "{_dot_id(arrow.target)}"{label};')
    return "\n".join([*lines, "}", ""])


def as_data(topology: Topology) -> dict[str, Any]:
    """The same for programs: nodes, and arrows between them with the types that go there."""
    picture = picture_of(topology)
    return {
        "name": picture.name,
        "nodes": [{"id": _dot_id(node), **asdict(node)} for node in picture.nodes],
        "arrows": [
            {
                "from": _dot_id(arrow.origin),
                "to": _dot_id(arrow.target),
                "types": list(arrow.types),
                "narrowed": arrow.narrowed,
            }
            for arrow in picture.arrows
        ],
    }


def outputs_of(stage: Stage) -> list[Stream]:
    """The streams a stage writes, in declared order."""
    targets = {stream.name: stream for stream in stage.routes.values()}
    return [targets[name] for name in stage.spec.emits if name in targets]


def taken_by(stage: Stage, stream: Stream) -> frozenset[type[Payload]]:
    """The types a stage takes of one of its inputs, ticks aside."""
    where = stage.edges.get(stream.name, Edge()).where
    return stage.agent_class.consumes & (stream.carries if where is None else frozenset(where))


def _mermaid_node(node: Node) -> str:
    before, after = ("[", "]") if node.kind == "stage" else ("[(", ")]") if node.stored else ("([", "])")
    return f'{_mermaid_id(node)}{before}"{node.name}"{after}'


def _dot_shape(node: Node) -> str:
    return "box" if node.kind == "stage" else "cylinder" if node.stored else "ellipse"


def _read(stage: Stage, node: Node, streams: dict[str, Node]) -> Iterator[Arrow]:
    for stream in stage.inputs:
        taken = taken_by(stage, stream)
        ticks = stage.agent_class.consumes & {TickPassed} if stream.spec.ticks else frozenset()
        narrowed = taken != stage.agent_class.consumes & stream.carries
        yield Arrow(streams[stream.name], node, _names(taken | ticks), narrowed)


def _written(stage: Stage, node: Node, streams: dict[str, Node]) -> Iterator[Arrow]:
    for stream in outputs_of(stage):
        put = [payload for payload, target in stage.routes.items() if target is stream]
        yield Arrow(node, streams[stream.name], _names(put))


def _by_area(nodes: Iterable[Node]) -> Iterator[tuple[str, list[Node]]]:
    """Streams and stages without a folder first come, first shown; each folder's stages together."""
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        groups.setdefault((node.kind, node.area), []).append(node)
    for (_, area), grouped in groups.items():
        yield area, grouped


def _area(stage: Stage) -> str:
    """The folder the agent's module lies in: ``monitor`` of ``agents.monitor.health``; empty when it lies in none."""
    module = stage.spec.agent.partition(":")[0].split(".")
    return module[-2] if len(module) > 2 else ""


def _names(types: Iterable[type[Payload]]) -> tuple[str, ...]:
    return tuple(sorted(payload.__name__ for payload in types))


def _mermaid_id(node: Node) -> str:
    return f"{node.kind}_{node.name.replace('-', '_').replace('.', '_dot_')}"


def _dot_id(node: Node) -> str:
    return f"{node.kind}:{node.name}"
