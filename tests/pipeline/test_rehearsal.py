"""Tests beside a topology are played like events live, and what is not as expected is shown beside what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from agents.ports import ExecuteAction
from pipeline.loading import load_topology, read_tests
from pipeline.rehearsal import Rehearsal, Rehearsed
from topology import Agent, Event, World
from topology.graph import Topology
from topology.parse import parse
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten, TickPassed
from topology.resolve import resolve

YAML = """
name: tiny
streams:
  intake: {carries: [LogWritten], key: service}
  findings: {carries: [AnomalyDetected], key: service}
stages:
  - {id: ring, agent: "here:Ring", consumes: intake, emits: findings}
"""

CASES = """\
tests:
  - name: a bell is rung for every line
    answers:
      - {question: ExecuteAction, about: {request: {target: shop}}, answer: {status: succeeded, detail: rung}}
      - {question: ExecuteAction, answer: {status: refused, detail: no bell}}
    given:
      - {stream: intake, type: LogWritten, at: 3s, payload: {service: home, message: hi}}
      - {stream: intake, type: LogWritten, at: 1s, every: 500ms, times: 2, payload: {service: shop, message: hi}}
    expect:
      - {stream: findings, payload: {service: shop, summary: rung}, count: 2}
      - {stream: findings, type: AnomalyDetected, payload: {service: home, summary: no bell}}
      - {stream: findings, count: 3}
"""


class Ring(Agent[LogWritten, AnomalyDetected]):
    """Rings a bell for every line but an evil one, and tells what came of it."""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        line = event.payload
        if line.message == "evil":
            msg = "this line is evil"
            raise ValueError(msg)
        bell = ActionRequest(executor="bell", operation="ring", target=line.service)
        report = await world.ask(ExecuteAction(request=bell, idempotency_key=str(event.id)))
        yield AnomalyDetected(service=line.service, system="s", kind="bell", summary=report.detail)


class Repeat(Agent[LogWritten, AnomalyDetected]):
    """Says of every line that it was there."""

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        yield AnomalyDetected(service=event.payload.service, system="s", kind="line")


class Clock(Agent[LogWritten | TickPassed, AnomalyDetected]):
    """Says that a second has passed."""

    def process(self, event: Event[LogWritten | TickPassed], world: World) -> Iterable[AnomalyDetected]:
        if isinstance(event.payload, TickPassed):
            yield AnomalyDetected(service="clock", system="s", kind="clock", summary="it is time")


class Again(Agent[AnomalyDetected, AnomalyDetected]):
    """Says it again."""

    def process(self, event: Event[AnomalyDetected], world: World) -> Iterable[AnomalyDetected]:
        yield event.payload


def tiny(policy: str = "park-key") -> Topology:
    return resolve(parse(YAML.replace("emits: findings}", f"emits: findings, on_poison: {policy}}}")), {"here:Ring": Ring}.__getitem__)  # fmt: skip


async def played(text: str, topology: Topology | None = None) -> list[Rehearsed]:
    rehearsal = Rehearsal(topology or tiny(), text, "tiny.test.yaml")
    return [await rehearsal.play(number) for number in range(len(rehearsal))]


def shown(results: Iterable[Rehearsed]) -> list[Any]:
    return [(failure.line, failure.found, failure.expected, failure.details) for each in results for failure in each.failures]  # fmt: skip


async def test_the_loop_that_ships_does_what_its_tests_expect() -> None:
    text, name = read_tests()
    results = await played(text, load_topology())

    assert name == "incident_loop.test.yaml"
    assert len(results) >= 5
    assert shown(results) == []


async def test_events_come_at_their_times_and_get_the_first_answer_that_fits() -> None:
    [result] = await played(CASES)

    assert (result.name, result.line, shown([result])) == ("a bell is rung for every line", 2, [])


async def test_only_the_stages_a_test_names_are_played() -> None:
    yaml = YAML.replace(
        "stages:\n",
        """  more: {carries: [AnomalyDetected], key: service, stored: false}
stages:
  - {id: first, agent: "here:Repeat", consumes: intake, emits: more}
  - {id: second, agent: "here:Again", consumes: more, emits: findings}
""",
    )
    agents = {"here:Ring": Ring, "here:Repeat": Repeat, "here:Again": Again}
    both = resolve(parse(yaml), agents.__getitem__)
    ringing = CASES.replace("    answers:\n", "    only: ring\n    answers:\n")
    chained = ringing.replace("only: ring", "only: second")

    [of_ring] = await played(ringing, both)
    [of_chain] = await played(chained, both)
    [of_all] = await played(CASES, both)

    assert shown([of_ring]) == []
    assert shown([of_chain])[0][1] == "none of 3 events on 'findings'"
    assert [found for _, found, _, _ in shown([of_all])] == ["6 of 6 events on 'findings'"]


async def test_what_is_missing_is_shown_beside_what_comes_nearest() -> None:
    [result] = await played(CASES.replace("summary: no bell}", "summary: no bells}"))

    [(line, found, expected, details)] = shown([result])
    assert line == 11
    assert found == "none of 3 AnomalyDetected on 'findings'"
    assert expected == "at least one with {'service': 'home', 'summary': 'no bells'}"
    assert details == (
        "the nearest is AnomalyDetected at 3s",
        "summary: found 'no bell', expected 'no bells'",
    )


async def test_what_is_too_much_is_shown_with_its_time() -> None:
    [result] = await played(CASES.replace("count: 3", "count: 0"))

    [(line, found, expected, details)] = shown([result])
    assert (line, found, expected) == (12, "3 of 3 events on 'findings'", "none")
    assert [each.partition(":")[0] for each in details] == [f"AnomalyDetected at {at}s" for at in ("1", "1.5", "3")]


async def test_of_much_that_is_too_much_only_some_is_shown() -> None:
    [result] = await played(CASES.replace("times: 2", "times: 200").replace("count: 2", "count: 1"))

    assert [len(details) for _, _, _, details in shown([result])] == [8, 8]


async def test_time_passes_until_the_test_looks() -> None:
    yaml = YAML.replace("key: service}", "key: service, ticks: 1s, partitions: 1}", 1).replace("Ring", "Clock")
    clock = resolve(parse(yaml.replace("findings: {", "findings: {partitions: 1, ")), {"here:Clock": Clock}.__getitem__)
    cases = """\
tests:
  - name: a clock strikes every second
    given: [{stream: intake, type: LogWritten, at: 500ms, payload: {service: shop, message: hi}}]
    until: 4s
    expect: [{stream: findings, payload: {summary: it is time}, count: 4}]
"""

    assert shown(await played(cases, clock)) == []
    [(_, found, _, _)] = shown(await played(cases.replace("until: 4s", "until: 2s"), clock))
    assert found == "2 of 2 events on 'findings'"


async def test_a_question_the_test_does_not_answer_fails_it() -> None:
    [result] = await played(CASES.replace("      - {question: ExecuteAction, answer: {status: refused, detail: no bell}}\n", ""))  # fmt: skip

    line, found, expected, _ = shown([result])[0]
    assert (line, expected) == (2, "an answer under `answers`")
    assert found.startswith(
        "the question ExecuteAction {'request': {'executor': 'bell', 'operation': 'ring', 'target': 'home'}"
    )


async def test_a_dead_letter_nobody_expects_fails_the_test() -> None:
    evil = CASES.replace(
        "at: 3s, payload: {service: home, message: hi}", "at: 3s, payload: {service: evil, message: evil}"
    )
    evil = evil.replace(
        "      - {stream: findings, type: AnomalyDetected, payload: {service: home, summary: no bell}}\n", ""
    )
    evil = evil.replace("count: 3", "count: 2")
    [result] = await played(evil)
    [expecting] = await played(evil + "      - {stream: dead-letters, payload: {stage: ring}, count: 1}\n")

    [(line, found, _, _)] = shown([result])
    assert (line, found) == (2, "an event that stage 'ring' gave up: this line is evil")
    assert shown([expecting]) == []


async def test_a_stage_that_halts_fails_the_test() -> None:
    [result] = await played(CASES.replace("message: hi}", "message: evil}", 1), tiny("halt"))

    assert any(found.startswith("an end of the run: HaltedError") for _, found, _, _ in shown([result]))


async def test_every_test_begins_anew_and_twice_gives_the_same() -> None:
    again = CASES + CASES.partition("tests:\n")[2].replace("for every line", "again")

    assert shown(await played(again)) == []
