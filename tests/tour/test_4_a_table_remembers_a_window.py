"""Chapter 4. What an agent remembers it keeps in tables: by key, over windows of event time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from pipeline.engine.drive import Driver
from tables.aggregates import Count
from tables.table import Table
from tables.windows import Tumbling, minutes
from tests.tour.small_world import NOON, declared, said
from topology import Agent, Event, World
from topology.payloads import AnomalyDetected, EntryCameLate, LogWritten
from topology.state import ClosedWindow

YAML = """
name: tour
streams:
  intake: {carries: [LogWritten], key: service}
  findings: {carries: [AnomalyDetected], key: system}
stages:
  - {id: count-lines, agent: "here:CountLines", consumes: intake, emits: findings}
"""


class CountLines(Agent[LogWritten, AnomalyDetected]):
    """Counts lines per service and minute, and says the count when the minute is over."""

    lines = Table("lines", key="service", window=Tumbling(minutes(1)), value=Count)

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        self.lines.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        yield AnomalyDetected(service=closed.key, system=closed.key, kind="log.count", value=closed.value)


async def counts(driver: Driver) -> list[tuple[str, float | None]]:
    await driver.run_until_idle()
    payloads = [event.payload for event in await driver.events("findings")]
    return [(p.service, p.value) for p in payloads if isinstance(p, AnomalyDetected)]


async def test_a_window_closes_when_an_event_shows_that_its_time_is_over() -> None:
    driver = Driver(declared(YAML, CountLines))

    await driver.publish("intake", [said("a", seconds=1), said("b", seconds=59)])
    assert await counts(driver) == [], "no clock runs here: nothing has said yet that the minute is over"

    await driver.publish("intake", [said("c", seconds=61)])
    assert await counts(driver) == [("shop", 2.0)]


async def test_who_comes_too_late_is_not_counted_and_not_lost() -> None:
    driver = Driver(declared(YAML, CountLines))

    late = said("late", seconds=30)
    await driver.publish("intake", [said("a", seconds=1), said("b", seconds=61), late])

    assert await counts(driver) == [("shop", 1.0)]
    [entry] = await driver.events("late")
    assert isinstance(entry.payload, EntryCameLate)
    assert entry.payload.event == late.id


async def test_a_stage_that_allows_lateness_waits_so_long() -> None:
    patient = YAML.replace("emits: findings}", "emits: findings, lateness: 10s}")
    driver = Driver(declared(patient, CountLines))

    await driver.publish("intake", [said("a", seconds=1), said("b", seconds=61), said("late", seconds=30)])
    assert await counts(driver) == []

    await driver.publish("intake", [said("c", seconds=70)])
    assert await counts(driver) == [("shop", 2.0)]


class CountSoFar(Agent[LogWritten, AnomalyDetected]):
    """Says after every second line how many there were, without waiting for the minute to be over."""

    lines = Table("lines", key="service", window=Tumbling(minutes(1)), value=Count, early=2)

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        self.lines.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        kind = "log.count" if closed.final else "log.count.so-far"
        yield AnomalyDetected(service=closed.key, system=closed.key, kind=kind, value=closed.value)


async def test_who_cannot_wait_gets_early_results_that_later_ones_replace() -> None:
    driver = Driver(declared(YAML.replace("CountLines", "CountSoFar"), CountSoFar))
    await driver.publish("intake", [said("a", seconds=1), said("b", seconds=2), said("c", seconds=3)])
    assert await counts(driver) == [("shop", 2.0)]

    await driver.publish("intake", [said("d", seconds=61)])
    assert await counts(driver) == [("shop", 2.0), ("shop", 3.0)]

    early, final = await driver.events("findings")
    assert (early.timestamp, final.timestamp) == (NOON + timedelta(seconds=2), NOON + timedelta(minutes=1))
    assert early.metadata["window"].items() >= {"revision": 0, "final": False}.items()
    assert final.metadata["window"].items() >= {"revision": 1, "final": True}.items()
