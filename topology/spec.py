"""The declared form of a topology: one pydantic model per kind of thing.

These models are the only source of the YAML form, its JSON Schema and its reference.  They say what was declared;
:mod:`topology.graph` is what it means once the agents are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

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
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="whose readers a busy worker lets step and commit first"
    )
    stored: bool = Field(
        default=True,
        description="false: passed on in memory from the one stage that emits it to the one that consumes it, which run as "
        "one task; nothing of it is kept, and nobody else can read it",
    )


class InputSpec(Declared):
    """What a stage takes, of one stream or of all that carry a type, and what happens when it falls behind there."""

    stream: Name | None = None
    type: str | None = Field(
        default=None, description="payload class, taken from every stream that carries it and the stage does not write"
    )
    types: tuple[str, ...] = Field(
        default=(), description="payload classes taken of the stream; by default all that the agent consumes"
    )
    where: str | None = Field(
        default=None,
        description="condition on what is taken, such as payload.severity >= 'high'; the rest is passed over",
    )
    lag_max: int | None = Field(
        default=None, ge=1, description="events that may wait for the stage in a partition before `when_full` applies"
    )
    when_full: Literal["block", "shed"] = Field(
        default="block",
        description="block: whoever writes the stream waits; shed: the oldest are passed over and reported",
    )
    shed_first: str | None = Field(default=None, description="condition on what is shed before everything else")
    shed_last: str | None = Field(
        default=None, description="condition on what is shed only when all else is not enough"
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> InputSpec:
        if (self.stream is None) == (self.type is None):
            msg = "found both or neither, expected either `stream` or `type`"
            raise ValueError(msg)
        if self.type is not None and self.types:
            msg = "found `type` and `types`, expected `types` beside `stream` only"
            raise ValueError(msg)
        if self.when_full == "shed" and self.lag_max is None:
            msg = "found `when_full: shed` alone, expected `lag_max` beside it"
            raise ValueError(msg)
        if self.when_full != "shed" and (self.shed_first or self.shed_last):
            msg = "found `shed_first` or `shed_last`, expected `when_full: shed` beside it"
            raise ValueError(msg)
        return self


def _form_of_input(found: object) -> str:
    return "[input]" if isinstance(found, dict | InputSpec) else "[name]"


Inputs = Annotated[
    tuple[
        Annotated[Annotated[InputSpec, Tag("[input]")] | Annotated[Name, Tag("[name]")], Discriminator(_form_of_input)],
        ...,
    ],
    BeforeValidator(
        lambda found: (found,) if isinstance(found, str | dict | InputSpec) else found,
        json_schema_input_type=Name | InputSpec | tuple[Name | InputSpec, ...],
    ),
]
"""One stream's name, or one :class:`InputSpec`, or a list of them."""


class RetrySpec(Declared):
    """How often, and how far apart, a failed event is tried again."""

    attempts: int = Field(default=5, ge=1)
    first_pause: Duration = Field(default=timedelta(milliseconds=100), json_schema_extra={"default": "100ms"})
    longest_pause: Duration = Field(default=timedelta(seconds=10), json_schema_extra={"default": "10s"})


class StageSpec(Declared):
    """One agent at one place in the flow."""

    id: Name = Field(description="names the stage's state and offsets for ever; a rename needs `aliases`")
    agent: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", description="module:Class")
    consumes: Inputs = Field(min_length=1, description="streams by name, or what of them")
    emits: Names = ()
    config: Mapping[str, Any] = Field(default_factory=dict)
    lateness: Duration = Field(
        default=timedelta(0), description="how far out of order events may be", json_schema_extra={"default": "0s"}
    )
    on_poison: Literal["park-key", "skip", "halt"] = "park-key"
    retry: RetrySpec = RetrySpec()
    concurrency: int = Field(default=64, ge=1, description="keys of one partition that may wait for the world at once")
    questions_max: int | None = Field(
        default=None, ge=1, description="questions a worker puts to the world at once for all partitions of the stage"
    )
    records_per_step: int = Field(
        default=100, ge=1, le=10_000, description="records of one partition before others have their turn"
    )
    pending_max: int = Field(
        default=10_000,
        ge=1,
        description="records a partition holds at most that are not done; a restart reads them again",
    )
    aliases: tuple[Name, ...] = ()

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """``consumes``, with names written out."""
        return tuple(InputSpec(stream=each) if isinstance(each, str) else each for each in self.consumes)


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
