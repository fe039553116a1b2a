"""The declared form of a topology: one pydantic model per kind of thing.

These models are the only source of the YAML form, its JSON Schema and its reference.  They say what was declared;
:mod:`topology.graph` is what it means once the agents are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from topology.durations import Duration
from topology.payloads.healing import Autonomy

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,62}$")]
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(
        lambda found: (found,) if isinstance(found, str) else found, json_schema_input_type=Name | tuple[Name, ...]
    ),
]
"""One name, or a list of them."""


class Declared(BaseModel):
    """Base of everything declared: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StreamSpec(Declared):
    """A typed stream of so many partitions."""

    carries: tuple[str, ...] = Field(min_length=1, description="payload classes, such as MetricSampled")
    key: str = Field(default="service", description="payload field that decides the partition; order holds per key")
    partitions: int = Field(default=4, ge=1, le=4096)
    ticks: Duration | None = Field(default=None, description="put TickPassed into every partition this often")
    retain: Duration | None = Field(default=None, description="how long events are kept once every stage has read them")
    archive: bool = Field(default=False, description="keep what is trimmed as files")
    priority: Literal["low", "normal", "high"] = "normal"


class RetrySpec(Declared):
    """How often, and how far apart, a failed event is tried again."""

    attempts: int = Field(default=5, ge=1)
    first_pause: Duration = Field(default=timedelta(milliseconds=100), json_schema_extra={"default": "100ms"})
    longest_pause: Duration = Field(default=timedelta(seconds=10), json_schema_extra={"default": "10s"})


class StageSpec(Declared):
    """One agent at one place in the flow."""

    id: Name = Field(description="names the stage's state and offsets for ever; a rename needs `aliases`")
    agent: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", description="module:Class")
    consumes: Names = Field(min_length=1)
    emits: Names = ()
    config: Mapping[str, Any] = Field(default_factory=dict)
    lateness: Duration = Field(
        default=timedelta(0), description="how far out of order events may be", json_schema_extra={"default": "0s"}
    )
    on_poison: Literal["park-key", "skip", "halt"] = "park-key"
    retry: RetrySpec = RetrySpec()
    concurrency: int = Field(default=64, ge=1, description="keys of one partition that may wait for the world at once")
    aliases: tuple[Name, ...] = ()


class ServiceSpec(Declared):
    """A service of a system, as the operator knows it."""

    depends_on: tuple[str, ...] = ()
    kind: Literal["service", "batch"] = "service"
    """A batch job may be stopped without anybody missing it at once."""


class SystemSpec(Declared):
    """An application: the services that fail and heal together, and how far repairs may go on their own."""

    autonomy: Autonomy = "suggest"
    services: Mapping[str, ServiceSpec] = Field(default_factory=dict)


class SolutionSpec(Declared):
    """A repair that could be tried, declared once and aimed at a target when a problem is diagnosed.

    ``target`` says whom it is aimed at: the ``root`` cause's service, one of its ``dependencies``, a ``batch`` job of
    the system, or the service a recent reversible ``change`` was applied to.
    """

    id: Name
    title: str
    executor: Name
    operation: str
    target: Literal["root", "dependencies", "batch", "change"] = "root"
    kinds: tuple[str, ...] = Field(default=("*",), description="symptom kinds it may help with, as glob patterns")
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    cost: float = Field(default=0.1, ge=0.0, le=1.0)
    risk: float = Field(default=0.1, ge=0.0, le=1.0)
    reversible: bool = True
    prerequisites: tuple[str, ...] = ()
    expected_outcome: str = ""
    side_effects: tuple[str, ...] = ()


class TopologySpec(Declared):
    """A whole topology, as one YAML file declares it.

    ``systems`` and ``solutions`` are shared: a stage whose agent's ``Config`` has a field of that name gets the section,
    unless its own ``config`` says otherwise.
    """

    name: Name
    description: str = ""
    streams: Mapping[Name, StreamSpec]
    stages: tuple[StageSpec, ...]
    systems: Mapping[str, SystemSpec] = Field(default_factory=dict)
    solutions: tuple[SolutionSpec, ...] = ()
