"""Chapter 6. A stage's outputs, state and offset change together or not at all, so a crash repeats work, never results."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.engine.drive import Driver
from tables.keyed import Keyed
from tests.tour.small_world import declared, said
from topology import Agent, Event, World
from topology.codec import encode
from topology.errors import PoisonedEventError
from topology.payloads import AnomalyDetected, EventDeadLettered, LogWritten

YAML = """
name: tour
streams:
  intake: {carries: [LogWritten], key: service}
  findings: {carries: [AnomalyDetected], key: system}
stages:
  - {id: number, agent: "here:Number", consumes: intake, emits: findings, on_poison: skip}
"""


class Number(Agent[LogWritten, AnomalyDetected]):
    """Numbers the lines of each service; cannot bear the word poison."""

    seen = Keyed("seen", value=int)

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        line = event.payload
        if "poison" in line.message:
            msg = f"cannot number {line.message!r}"
            raise PoisonedEventError(msg)
        number = (self.seen.get(line.service) or 0) + 1
        self.seen.put(line.service, number)
        yield AnomalyDetected(service=line.service, system=line.system, kind="line", value=number)


async def findings(*, crash_after_every_commit: bool) -> list[bytes]:
    driver = Driver(declared(YAML, Number))
    await driver.publish("intake", [said(f"line {n}", service=f"s{n % 3}", seconds=n) for n in range(30)])
    while await driver.step(count=2):
        if crash_after_every_commit:
            driver.crash()
    return sorted(encode(event) for event in await driver.events("findings"))


async def test_with_a_crash_after_every_commit_the_output_is_the_same_to_the_byte() -> None:
    calm = await findings(crash_after_every_commit=False)

    assert len(calm) == 30
    assert await findings(crash_after_every_commit=True) == calm


async def test_what_can_never_be_processed_is_set_aside_with_the_reason() -> None:
    driver = Driver(declared(YAML, Number))

    await driver.publish("intake", [said("one"), said("poison"), said("two")])
    await driver.run_until_idle()

    assert len(await driver.events("findings")) == 2
    [letter] = await driver.events("dead-letters")
    assert isinstance(letter.payload, EventDeadLettered)
    assert (letter.payload.stage, letter.payload.reason) == ("number", "cannot number 'poison'")
