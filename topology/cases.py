"""The tests beside a topology, as a YAML file declares them: events in, the world's answers, and what is to come of it.

    tests:
      - name: a service that is down is restarted
        answers:
          - {question: ExecuteAction, about: {request: {operation: restart}}, answer: {status: succeeded}}
        given:
          - {stream: intake, type: HeartbeatSeen, at: 5s, every: 500ms, times: 6, payload: {service: web, healthy: false}}
        until: 20s
        expect:
          - {stream: plans, type: PlanProposed, payload: {solution: restart-service}, count: 1}
          - {stream: lessons, count: 0}

Times count from ``starts``.  Who plays them is :mod:`pipeline.rehearsal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, Field, model_validator

from topology.defects import Places
from topology.durations import Duration
from topology.parse import read_declared
from topology.spec import Declared, Name, Names


class GivenSpec(Declared):
    """An event that is put on a stream, as a source does; or several that are the same but for their time."""

    stream: Name
    type: str = Field(description="payload class, such as HeartbeatSeen")
    at: Duration = Field(default=timedelta(0), json_schema_extra={"default": "0s"})
    every: Duration | None = Field(default=None, description="the time between two of them")
    times: int = Field(default=1, ge=1, le=100_000)
    payload: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _repeats_or_not(self) -> GivenSpec:
        if (self.every is None) != (self.times == 1):
            msg = "found one of `every` and `times`, expected both or neither"
            raise ValueError(msg)
        return self

    @property
    def last_at(self) -> timedelta:
        """When the last of them happens."""
        return self.at + (self.every or timedelta(0)) * (self.times - 1)


class ExpectedSpec(Declared):
    """What is on a stream at the end."""

    stream: Name
    type: str | None = Field(default=None, description="payload class; any that the stream carries without")
    payload: Mapping[str, Any] = Field(default_factory=dict, description="fields that matter, at any depth")
    count: int | None = Field(default=None, ge=0, description="how many there are; at least one without")


class AnswerSpec(Declared):
    """What the world answers to a question; of those that fit, the first."""

    question: str = Field(description="class of the question, such as ExecuteAction")
    about: Mapping[str, Any] = Field(default_factory=dict, description="fields of the question that matter")
    answer: Mapping[str, Any]


class CaseSpec(Declared):
    """One test; its ``answers`` come before those of the file."""

    name: str = Field(min_length=1)
    only: Names = Field(default=(), description="stages that are played; all without")
    answers: tuple[AnswerSpec, ...] = ()
    given: tuple[GivenSpec, ...] = Field(min_length=1)
    until: Duration | None = Field(
        default=None, description="when to look; by default when the last event is processed"
    )
    expect: tuple[ExpectedSpec, ...] = Field(min_length=1)

    @property
    def ends_at(self) -> timedelta:
        """When to look what came of it."""
        return max(self.until or timedelta(0), *(given.last_at for given in self.given))


class CasesSpec(Declared):
    """A file of tests; each begins with a pipeline that remembers nothing."""

    starts: AwareDatetime = datetime(2026, 1, 1, tzinfo=UTC)
    answers: tuple[AnswerSpec, ...] = ()
    tests: tuple[CaseSpec, ...] = Field(min_length=1)


def parse_cases(text: str, origin: str) -> tuple[CasesSpec, Places]:
    """The tests a YAML text declares, and where each part of them was written.

    Raises:
        BrokenTopologyError: not YAML, or not of the form above; every defect is in it, with its line.
    """
    return read_declared(text, origin, CasesSpec, first="tests")
