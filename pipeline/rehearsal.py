"""Plays the tests beside a topology: the same agents and commits as live, in virtual time, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from pipeline.engine.asking import Handlers
from pipeline.engine.drive import Driver
from pipeline.engine.outputs import DEAD_LETTERS, OPERATION_STREAMS
from topology.case_check import case_defects, type_of
from topology.cases import AnswerSpec, CaseSpec, parse_cases
from topology.defects import Path, raise_if_broken
from topology.errors import AiopsError, ConfigurationError
from topology.event import Event, Payload
from topology.expectation import Failure, unmet
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us, span_us, to_us
from topology.payloads.operation import EventDeadLettered
from topology.question import Question
from topology.subset import differences

SOURCE = "test"
"""What the events of a test say they come from."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How one test went."""

    name: str
    line: int
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        """Everything was as expected."""
        return not self.failures


class Rehearsal:
    """The tests of one file, for one topology.

    Args:
        text: the file's.
        origin: its name in messages.

    Raises:
        BrokenTopologyError: the file is not of the form of :mod:`topology.cases`, or about another topology.
    """

    def __init__(self, topology: Topology, text: str, origin: str) -> None:
        self._topology = topology
        self._questions = _questions()
        self._spec, self._places = parse_cases(text, origin)
        also = {stream.name: stream for stream in OPERATION_STREAMS}
        questions = {kind.__name__: kind for kind in self._questions}
        raise_if_broken(case_defects(self._spec, self._places, topology, also=also, questions=questions))

    def __len__(self) -> int:
        return len(self._spec.tests)

    async def play(self, number: int) -> Rehearsed:
        """Play one test from its beginning, with nothing remembered."""
        case, path = self._spec.tests[number], ("tests", number)
        world = _World(self._questions, (*case.answers, *self._spec.answers))
        start_us = to_us(self._spec.starts)
        driver = Driver(self._played(case), world.handlers, start_us=start_us)
        try:
            for stream, event in _given(case, self._topology, start_us):
                await driver.play(stream, [event])
            await driver.advance_to(start_us + span_us(case.ends_at))
        except AiopsError as error:
            ended = [self._failure(path, f"an end of the run: {type(error).__name__}: {error}", "none")]
        else:
            ended = []
        failures = [*ended, *self._unanswered(world, path)]
        if not failures:  # else there are dead letters for the same reason
            failures += [failure async for failure in self._given_up(driver, case, path)]
        failures += [failure async for failure in self._unmet(driver, case, path, start_us)]
        return Rehearsed(case.name, self._places.line_of((*path, "name")), tuple(failures))

    def _played(self, case: CaseSpec) -> Topology:
        """The topology with the stages that a test wants, and those that run in one task with them."""
        tasks = [self._topology.task_of(stage) for stage in case.only] or self._topology.tasks
        played = {stage.id for task in tasks for stage in task.chain}
        return replace(self._topology, stages=tuple(each for each in self._topology.stages if each.id in played))

    async def _unmet(self, driver: Driver, case: CaseSpec, path: Path, start_us: int) -> AsyncIterator[Failure]:
        for number, expected in enumerate(case.expect):
            at = (*path, "expect", number)
            failure = unmet(
                expected,
                await driver.events(expected.stream),
                start_us=start_us,
                line=self._places.line_of(at),
                path=at,
            )
            if failure is not None:
                yield failure

    async def _given_up(self, driver: Driver, case: CaseSpec, path: Path) -> AsyncIterator[Failure]:
        if any(expected.stream == DEAD_LETTERS.name for expected in case.expect):
            return
        for letter in await driver.events(DEAD_LETTERS.name):
            if isinstance(letter.payload, EventDeadLettered):
                found = f"an event that stage {letter.payload.stage!r} gave up: {letter.payload.reason}"
                yield self._failure(path, found, "none that this test does not expect on 'dead-letters'")

    def _unanswered(self, world: _World, path: Path) -> Iterator[Failure]:
        for question in world.unanswered:
            about = question.model_dump(mode="json", exclude_defaults=True)
            yield self._failure(
                path, f"the question {type(question).__name__} {about!r:.300}", "an answer under `answers`"
            )

    def _failure(self, path: Path, found: str, expected: str) -> Failure:
        return Failure(self._places.line_of((*path, "name")), path, found, expected)


class _World:
    """Answers as a test says."""

    def __init__(self, questions: Iterable[type[Question[Any]]], answers: Sequence[AnswerSpec]) -> None:
        self.unanswered: list[Question[Any]] = []
        self.handlers: Handlers = dict.fromkeys(questions, self._answer)
        self._answers = answers

    async def _answer(self, question: Question[Any]) -> BaseModel:
        asked = question.model_dump(mode="json")
        for answer in self._answers:
            if answer.question == type(question).__name__ and not any(differences(asked, answer.about)):
                answered: BaseModel = question.answer_type().model_validate(answer.answer)
                return answered
        self.unanswered.append(question)
        msg = f"the test does not say what {type(question).__name__} is answered"
        raise ConfigurationError(msg)


def _given(case: CaseSpec, topology: Topology, start_us: int) -> list[tuple[str, Event[Payload]]]:
    """The events of a test in order of time; of those at one time in the order they are written in."""
    found = []
    for index, given in enumerate(case.given):
        stream = topology.streams[given.stream]
        payload = type_of(stream, given.type).model_validate(given.payload)
        for number in range(given.times):
            at_us = start_us + span_us(given.at) + number * span_us(given.every or given.at)
            event_id = derived_id(SOURCE, case.name, index, number)
            event = Event(id=event_id, timestamp=from_us(at_us), source=SOURCE, payload=payload)
            found.append((stream.name, event))
    return sorted(found, key=lambda pair: pair[1].at_us)


def _questions() -> list[type[Question[Any]]]:
    """Every class of question that was imported, and with the agents of a topology theirs are."""
    found: list[type[Question[Any]]] = []
    below = list(Question.__subclasses__())
    while below:
        kind = below.pop()
        below += kind.__subclasses__()
        if "[" not in kind.__name__:  # such as Question[Recollection], which is nobody's question
            found.append(kind)
    return found
