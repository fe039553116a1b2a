"""A declared topology with its names looked up, as far as they could be found.

Between the declaration and the finished graph: what could not be found is a defect here, and missing in the draft, so
that the rest can still be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from topology.agent import Agent, AgentConfig
from topology.defects import Defect, Path, Places, did_you_mean, show_names
from topology.errors import ConfigurationError
from topology.event import Payload
from topology.explain import explain
from topology.graph import Edge, Stream
from topology.parse import ParsedTopology
from topology.registry import registered
from topology.spec import StageSpec, TopologySpec
from topology.subscription import Subscription, unknown_stream

AgentLoader = Callable[[str], object]
"""Gives what ``module:Class`` names; it is checked here that this is an agent class.  Raises ConfigurationError, ImportError or AttributeError when there is none."""

SHARED_SECTIONS = ("systems", "solutions")
"""Sections of the topology that a stage's ``Config`` gets when it has a field of that name."""


@dataclass(frozen=True, slots=True)
class DraftStage:
    """A stage as far as it is known; ``path`` is its place in the declaration."""

    spec: StageSpec
    path: Path
    agent_class: type[Agent[Any, Any]] | None
    config: AgentConfig | None
    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]
    edges: Mapping[str, Edge]

    @property
    def id(self) -> str:
        """The declared id; in a draft it may not be unique."""
        return self.spec.id

    def takes(self, stream: Stream) -> frozenset[type[Payload]]:
        """The types carried by an input that the declaration lets through, whether the agent consumes them or not."""
        edge = self.edges.get(stream.name)
        return stream.carries if edge is None or edge.where is None else frozenset(edge.where)

    def outputs_for(self, payload_type: type[Payload]) -> tuple[Stream, ...]:
        """The declared output streams that carry a type: one, when all is well."""
        return tuple(stream for stream in self.outputs if payload_type in stream.carries)


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that could be found, and a defect for everything that could not."""

    spec: TopologySpec
    places: Places
    streams: Mapping[str, Stream]
    stages: tuple[DraftStage, ...]
    defects: tuple[Defect, ...]


def draft_of(parsed: ParsedTopology, load: AgentLoader) -> Draft:
    """Look up every payload class, stream, agent class and stage configuration of a declaration."""
    spec, places = parsed.spec, parsed.places
    defects: list[Defect] = []
    streams = _streams(spec, places, defects)
    stages = tuple(
        _stage(stage, ("stages", index), parsed, streams, load, defects) for index, stage in enumerate(spec.stages)
    )
    return Draft(spec, places, streams, stages, tuple(defects))


def _streams(spec: TopologySpec, places: Places, defects: list[Defect]) -> dict[str, Stream]:
    by_class_name: dict[str, list[type[Payload]]] = {}
    by_event_type: dict[str, str] = {}
    for payload in registered():
        by_class_name.setdefault(payload.__name__, []).append(payload)
        by_event_type[payload.event_type] = payload.__name__
    streams = {}
    for name, stream in spec.streams.items():
        carries: set[type[Payload]] = set()
        for index, class_name in enumerate(stream.carries):
            path: Path = ("streams", name, "carries", index)
            found = by_class_name.get(class_name, [])
            if len(found) == 1:
                carries.add(found[0])
                continue
            if found:
                which = show_names(f"{payload.__module__}.{payload.__name__}" for payload in found)
                defects.append(
                    places.defect(
                        path,
                        found=f"{class_name!r}, which several payload classes are called ({which})",
                        expected="a name of one class",
                        remedy="rename one of them",
                    )
                )
                continue
            remedy = did_you_mean(class_name, by_class_name, "import the module that registers it, or correct the name")
            if class_name in by_event_type:
                remedy = f"write {by_event_type[class_name]}"
            defects.append(
                places.defect(
                    path,
                    found=f"{class_name!r} on stream {name!r}",
                    expected="the name of a registered payload class",
                    remedy=remedy,
                )
            )
        streams[name] = Stream(name, frozenset(carries), stream)
    return streams


def _stage(
    stage: StageSpec,
    path: Path,
    parsed: ParsedTopology,
    streams: Mapping[str, Stream],
    load: AgentLoader,
    defects: list[Defect],
) -> DraftStage:
    places = parsed.places

    outputs = []
    for index, name in enumerate(stage.emits):
        if name not in streams:
            found = f"stage {stage.id!r} writes to {name!r}"
            defects.append(unknown_stream(places, (*path, "emits", index), found, name, streams))
        elif name in stage.emits[:index]:
            defects.append(
                places.defect(
                    (*path, "emits", index),
                    found=f"stage {stage.id!r} writes to {name!r} a second time",
                    expected="every stream once",
                    remedy="remove one of them",
                )
            )
        else:
            outputs.append(streams[name])
    agent_class = _agent_class(stage, path, places, load, defects)
    subscription = Subscription(stage, path, places, streams, agent_class)
    defects += subscription.defects
    return DraftStage(
        stage,
        path,
        agent_class,
        _config(stage, path, agent_class, parsed, defects) if agent_class else None,
        subscription.inputs,
        tuple(outputs),
        subscription.edges,
    )


def _agent_class(
    stage: StageSpec, path: Path, places: Places, load: AgentLoader, defects: list[Defect]
) -> type[Agent[Any, Any]] | None:
    try:
        found = load(stage.agent)
    except (ConfigurationError, ImportError, AttributeError) as error:
        why = f"{stage.agent!r}, which cannot be loaded ({error})"
    else:
        if isinstance(found, type) and issubclass(found, Agent):
            return found
        why = f"{stage.agent!r}, which is {found!r:.80}"
    defects.append(
        places.defect(
            (*path, "agent"),
            found=f"stage {stage.id!r} with the agent {why}",
            expected="module:Class of a subclass of topology.Agent that can be imported",
            remedy="correct the name, or install what it imports",
        )
    )
    return None


def _config(
    stage: StageSpec,
    path: Path,
    agent_class: type[Agent[Any, Any]],
    parsed: ParsedTopology,
    defects: list[Defect],
) -> AgentConfig | None:
    model = agent_class.Config
    shared = {
        section: getattr(parsed.spec, section)
        for section in SHARED_SECTIONS
        if section in model.model_fields and section not in stage.config
    }
    try:
        return model.model_validate({**stage.config, **shared})
    except ValidationError as error:
        defects.extend(explain(error, model, parsed.places, (*path, "config")))
        return None
