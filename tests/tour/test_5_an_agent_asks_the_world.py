"""Chapter 5. What an agent cannot know it asks. An answer once given is never asked for again, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.drive import Driver
from tests.tour.small_world import declared, said
from topology import Agent, Event, World
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten

YAML = """
name: tour
streams:
  intake: {carries: [LogWritten], key: service}
  findings: {carries: [AnomalyDetected], key: system}
stages:
  - {id: ring, agent: "here:Ring", consumes: intake, emits: findings}
"""


class Ring(Agent[LogWritten, AnomalyDetected]):
    """Rings a bell for every line, and tells what came of it."""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        bell = ActionRequest(executor="bell", operation="ring", target=event.payload.service)
        report = await world.ask(ExecuteAction(request=bell, idempotency_key=str(event.id)))
        yield AnomalyDetected(service="shop", system="shop", kind="bell", summary=report.detail)


class Bell:
    """The outside world."""

    def __init__(self) -> None:
        self.rung = 0

    async def ring(self, question: ExecuteAction) -> ExecutionReport:
        self.rung += 1
        return ExecutionReport(status="succeeded", detail=f"rung {self.rung} time(s)")


async def test_a_question_goes_to_whoever_was_named_for_it_when_the_parts_were_put_together() -> None:
    bell = Bell()
    driver = Driver(declared(YAML, Ring), {ExecuteAction: bell.ring})

    await driver.publish("intake", [said("hello")])
    await driver.run_until_idle()

    [told] = await driver.events("findings")
    assert isinstance(told.payload, AnomalyDetected)
    assert told.payload.summary == "rung 1 time(s)"


async def test_answers_are_on_a_stream_of_their_own_for_whoever_replays() -> None:
    driver = Driver(declared(YAML, Ring), {ExecuteAction: Bell().ring})

    await driver.publish("intake", [said("hello"), said("again")])
    await driver.run_until_idle()

    assert [event.event_type for event in await driver.events("answers")] == ["answer.recorded"] * 2
