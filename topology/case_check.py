"""Whether the tests beside a topology are about that topology: streams, types, fields and questions that exist.

What is misspelt in a test must not pass for something that did not happen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from topology.cases import AnswerSpec, CasesSpec, ExpectedSpec, GivenSpec
from topology.defects import Defect, Path, Places, did_you_mean, show_names
from topology.event import Payload
from topology.explain import explain, model_at
from topology.graph import Stream, Topology
from topology.question import Question
from topology.subscription import unknown_stream

Questions = Mapping[str, type[Question[Any]]]
"""Classes of questions by name."""


def case_defects(
    spec: CasesSpec, places: Places, topology: Topology, *, also: Mapping[str, Stream], questions: Questions
) -> Iterator[Defect]:
    """Everything in the tests that does not fit the topology.

    Args:
        also: streams that are there whatever a topology declares.
        questions: what may be asked of the world.
    """
    streams = {**also, **topology.streams}
    yield from _answers(spec.answers, ("answers",), places, questions)
    lines: dict[str, int] = {}
    for index, case in enumerate(spec.tests):
        path: Path = ("tests", index)
        if case.name in lines:
            yield places.defect(
                (*path, "name"),
                found=f"test {case.name!r} a second time (first in line {lines[case.name]})",
                expected="a name that is used once",
                remedy="rename one of them",
            )
        lines.setdefault(case.name, places.line_of((*path, "name")))
        yield from _answers(case.answers, (*path, "answers"), places, questions)
        yield from _only(case.only, (*path, "only"), places, topology)
        for number, given in enumerate(case.given):
            yield from _given(given, (*path, "given", number), places, topology)
            if case.until is not None and given.last_at > case.until:
                yield places.defect(
                    (*path, "until"),
                    found=f"an end before the last event of {given.stream!r} is given",
                    expected="a time after all of them",
                    remedy="give fewer events, or look later",
                )
        for number, expected in enumerate(case.expect):
            yield from _expected(expected, (*path, "expect", number), places, streams)


def type_of(stream: Stream, name: str) -> type[Payload]:
    """The payload class of a name that a stream carries; KeyError when it carries none."""
    return {payload.__name__: payload for payload in stream.carries}[name]


def _only(stages: Collection[str], path: Path, places: Places, topology: Topology) -> Iterator[Defect]:
    known = [stage.id for stage in topology.stages]
    for index, name in enumerate(stages):
        if name not in known:
            yield places.defect(
                (*path, index),
                found=f"the stage {name!r}",
                expected=f"one of the topology's ({show_names(known)})",
                remedy=did_you_mean(name, known, "correct the name"),
            )


def _given(given: GivenSpec, path: Path, places: Places, topology: Topology) -> Iterator[Defect]:
    stream = topology.streams.get(given.stream)
    if stream is None or not stream.stored:
        yield _no_stream(f"an event for {given.stream!r}", given.stream, stream, path, places, topology.streams)
        return
    defect = _wrong_type(stream, given.type, path, places)
    if defect is not None:
        yield defect
        return
    payload = type_of(stream, given.type)
    try:
        payload.model_validate(given.payload)
    except ValidationError as error:
        yield from explain(error, payload, places, (*path, "payload"))


def _expected(expected: ExpectedSpec, path: Path, places: Places, streams: Mapping[str, Stream]) -> Iterator[Defect]:
    stream = streams.get(expected.stream)
    if stream is None or not stream.stored:
        yield _no_stream(f"something expected on {expected.stream!r}", expected.stream, stream, path, places, streams)
        return
    if expected.type is not None:
        defect = _wrong_type(stream, expected.type, path, places)
        if defect is not None:
            yield defect
            return
    types = [type_of(stream, expected.type)] if expected.type else stream.carries
    yield from _unknown_fields(expected.payload, types, (*path, "payload"), places)


def _answers(answers: Collection[AnswerSpec], path: Path, places: Places, questions: Questions) -> Iterator[Defect]:
    for index, answer in enumerate(answers):
        question = questions.get(answer.question)
        if question is None:
            yield places.defect(
                (*path, index, "question"),
                found=f"an answer to {answer.question!r}",
                expected=f"a question that agents ask ({show_names(questions)})",
                remedy=did_you_mean(answer.question, questions, "correct the name"),
            )
            continue
        yield from _unknown_fields(answer.about, [question], (*path, index, "about"), places)
        try:
            question.answer_type().model_validate(answer.answer)
        except ValidationError as error:
            yield from explain(error, question.answer_type(), places, (*path, index, "answer"))


def _no_stream(
    found: str, name: str, stream: Stream | None, path: Path, places: Places, streams: Mapping[str, Stream]
) -> Defect:
    at = (*path, "stream")
    if stream is None:
        return unknown_stream(places, at, found, name, streams)
    return places.defect(
        at,
        found=f"{found}, which is in memory only",
        expected="a stream that is stored",
        remedy="name one before or behind it, or take `stored: false` from it",
    )


def _wrong_type(stream: Stream, name: str, path: Path, places: Places) -> Defect | None:
    carried = [payload.__name__ for payload in stream.carries]
    if name in carried:
        return None
    return places.defect(
        (*path, "type"),
        found=f"{name!r} on stream {stream.name!r}",
        expected=f"one of what it carries ({show_names(carried)})",
        remedy=did_you_mean(name, carried, "correct the type or the stream"),
    )


def _unknown_fields(
    fields: Mapping[str, Any], models: Collection[type[BaseModel]], path: Path, places: Places
) -> Iterator[Defect]:
    known = {name for model in models for name in model.model_fields}
    for name, value in fields.items():
        inner = [found for model in models if (found := model_at(model, (name,))) is not None]
        if isinstance(value, Mapping) and inner:
            yield from _unknown_fields(value, inner, (*path, name), places)
        if name not in known:
            yield places.defect(
                (*path, name),
                found=f"the field {name!r}, which {show_names(model.__name__ for model in models)} does not have",
                expected=f"one of {show_names(known)}",
                remedy=did_you_mean(name, known, "remove it"),
            )
