"""The beginning of a new stage: an agent that already does something, its entry in a topology, and tests that pass.

What it does is made up, and meant to be replaced: it notices when more than a few events of one key came lately.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from keyword import iskeyword
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import orjson
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from topology.errors import UsageError
from topology.event import Payload
from topology.graph import Stream

RECENT_MAX = 3
_SUBJECT = "shop"
_PLAIN = re.compile(r"[a-z][a-z0-9]*([ .-][a-z0-9]+)*")
_NOT_PLAIN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})

_AGENT = '''\
"""Notices when more {takes} than usual come of one {key}: say here what it notices, and why that matters."""

from __future__ import annotations

from collections.abc import Iterable

from tables.aggregates import Count
from tables.table import Table
from tables.windows import Sliding, minutes
from topology import Agent, AgentConfig, Event, World
from topology.payloads import {imports}


class {name}Config(AgentConfig):
    """The settings of the stage, as its `config` in the topology gives them.

    Attributes:
        recent_max: so many within ten minutes are nothing yet.
    """

    recent_max: int = {recent_max}


class {name}(Agent[{takes}, {gives}]):
    """Says so when more than `recent_max` came within ten minutes.

    Remembers: how many there were of each {key}.
    """

    Config = {name}Config

    recent = Table("recent", key="{key}", window=Sliding(minutes(10)), value=Count)

    def process(self, event: Event[{takes}], world: World) -> Iterable[{gives}]:
        """One event in, what follows from it out; questions to the world want an `async def` and `await world.ask(...)`."""
        del world
        seen = event.payload
        if self.recent.add(event) > self.config.recent_max:
            yield {gives}(
{arguments}
            )
'''


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A stage that does not exist yet.

    Attributes:
        stage: its id.
        takes, gives: what its agent consumes from one stream, and emits to another.

    Raises:
        UsageError: it would consume what it emits, without end.
    """

    stage: str
    consumes: Stream
    takes: type[Payload]
    emits: Stream
    gives: type[Payload]

    def __post_init__(self) -> None:
        if self.consumes.name == self.emits.name and self.takes is self.gives:
            msg = f"found a stage that would read the {self.gives.__name__} it writes, expected another stream or type"
            raise UsageError(msg)

    @property
    def module(self) -> str:
        """The name of the agent's module."""
        name = re.sub(r"[.-]", "_", self.stage)
        return f"{name}_" if iskeyword(name) else name

    @property
    def agent(self) -> str:
        """The name of the agent's class."""
        name = "".join(part.capitalize() for part in re.split(r"[._-]", self.stage))
        imported = {"Agent", "AgentConfig", "Count", "Event", "Iterable", "Sliding", "Table", "World"}
        return f"{name}Agent" if name in imported | {self.takes.__name__, self.gives.__name__} else name

    def agent_source(self) -> str:
        """The module with the agent.

        Raises:
            UsageError: a field of what is emitted cannot be made up.
        """
        arguments = [f"                {name}={value}," for name, value in self._arguments().items()]
        return _AGENT.format(
            name=self.agent,
            takes=self.takes.__name__,
            gives=self.gives.__name__,
            key=self.consumes.spec.key,
            imports=", ".join(sorted({self.takes.__name__, self.gives.__name__})),
            recent_max=RECENT_MAX,
            arguments="\n".join(arguments),
        )

    def stage_entry(self) -> str:
        """The item under ``stages``."""
        lines = [
            f"- id: {_flow(self.stage)}",
            f"  agent: {self.module}:{self.agent}",
            f"  consumes: {self.consumes.name}",
            f"  emits: {self.emits.name}",
            f"  config: {{recent_max: {RECENT_MAX}}}",
        ]
        return "\n".join(lines)

    def tests(self) -> tuple[str, ...]:
        """Items under ``tests``: as many as may be lead to nothing, one more is noticed.

        Raises:
            UsageError: an event of the consumed type cannot be made up.
        """
        return (
            self._test("lets pass what is usual", times=RECENT_MAX, count=0),
            self._test("notices what is more than usual", times=RECENT_MAX + 1, count=1),
        )

    def _test(self, does: str, *, times: int, count: int) -> str:
        given = _example_of(self.takes)
        lines = [
            f"- name: {self.stage} {does}",
            f"  only: {_flow(self.stage)}",
            "  given:",
            f"    - {{stream: {self.consumes.name}, type: {self.takes.__name__}, every: 1s, times: {times}, payload: {_flow(given)}}}",
            "  expect:",
            f"    - {{stream: {self.emits.name}, type: {self.gives.__name__}, count: {count}}}",
        ]
        return "\n".join(lines)

    def _arguments(self) -> dict[str, str]:
        """What the agent's output is made of, as Python."""
        arguments = {}
        for name, field in self.gives.model_fields.items():
            taken = self.takes.model_fields.get(name)
            if taken is not None and taken.annotation == field.annotation and (field.is_required() or name == "system"):
                arguments[name] = f"seen.{name}"
            elif field.is_required():
                arguments[name] = self._made_up(name, field)
            elif (name, field.annotation) == ("summary", str):
                arguments[name] = 'f"more than {self.config.recent_max} in ten minutes"'
            elif (name, field.annotation) == ("evidence", tuple[UUID, ...]):
                arguments[name] = "(event.id,)"
        return arguments

    def _made_up(self, name: str, field: FieldInfo) -> str:
        kind = field.annotation
        values: dict[Any, str] = {
            str: _quoted(self.stage),
            bool: "True",
            int: "1",
            float: "0.5",
            UUID: "event.id",
            datetime: "event.timestamp",
        }
        if kind in values:
            return values[kind]
        if get_origin(kind) is Literal:
            return _quoted(get_args(kind)[0])
        if _is_mapping(kind):
            return "{}"
        msg = (
            f"cannot make up the field {name!r} of {self.gives.__name__}, expected text, numbers and the like; "
            f"let the stage give another type, or write the agent by hand"
        )
        raise UsageError(msg)


def _example_of(model: type[BaseModel]) -> dict[str, Any]:
    """Data of a model with nothing in it that need not be there, but who it is about."""
    about: dict[str, Any] = {name: _SUBJECT for name in ("service", "system") if name in model.model_fields}
    required = {name: field for name, field in model.model_fields.items() if field.is_required() and name not in about}
    data = {**about, **{name: _example(field.annotation, name) for name, field in required.items()}}
    try:
        model.model_validate(data)
    except ValidationError as error:
        msg = f"cannot make up an event of the type {model.__name__}; let the stage take another type, or write it by hand"
        raise UsageError(msg) from error
    return data


def _example(kind: Any, name: str) -> Any:
    values: dict[Any, Any] = {
        str: name,
        bool: True,
        int: 1,
        float: 0.5,
        UUID: str(UUID(int=1)),
        datetime: "2026-01-01T00:00:00Z",
    }
    if kind in values:
        return values[kind]
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _example_of(kind)
    if get_origin(kind) is tuple:
        return [_example(get_args(kind)[0], name)]
    if get_origin(kind) in (Union, UnionType):
        return _example(get_args(kind)[0], name)
    return {}


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _quoted(text: object) -> str:
    return orjson.dumps(text).decode()


def _flow(value: Any) -> str:
    """Data on one line of YAML, as people write it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value not in _NOT_PLAIN:
        return value
    return _quoted(value)
