"""Chapter 2. Events lie on streams. A stream carries some types, and a key decides what stays in order."""

from __future__ import annotations

import pytest

from pipeline.engine.drive import Driver
from pipeline.engine.publisher import Publisher
from pipeline.engine.record import partition_of
from tests.tour.small_world import declared, said
from topology import Agent, Event
from topology.errors import TopologyError
from topology.payloads import AnomalyDetected, HeartbeatSeen, LogWritten


class Nobody(Agent[LogWritten, AnomalyDetected]):
    """A topology needs somebody who reads."""


TOPOLOGY = declared(
    """
    name: tour
    streams:
      intake: {carries: [LogWritten], key: service, partitions: 4}
      findings: {carries: [AnomalyDetected], key: system}
    stages:
      - {id: nobody, agent: "here:Nobody", consumes: intake, emits: findings}
    """,
    Nobody,
)


def test_a_key_always_falls_into_the_same_partition() -> None:
    intake = TOPOLOGY.streams["intake"]

    assert intake.key_of(said("hello", service="shop").payload) == "shop"
    assert partition_of("shop", intake.partitions) == partition_of("shop", intake.partitions)
    assert {partition_of(f"service-{n}", intake.partitions) for n in range(50)} == {0, 1, 2, 3}


async def test_events_of_one_key_stay_in_the_order_in_which_they_came() -> None:
    driver = Driver(TOPOLOGY)

    await driver.publish("intake", [said(f"line {n}", service=f"service-{n % 3}") for n in range(30)])

    lines = [event.payload for event in await driver.events("intake") if isinstance(event.payload, LogWritten)]
    for service in ("service-0", "service-1", "service-2"):
        numbers = [int(line.message.split()[1]) for line in lines if line.service == service]
        assert numbers == sorted(numbers)


async def test_the_same_event_published_twice_is_on_the_stream_once() -> None:
    driver = Driver(TOPOLOGY)

    assert await driver.publish("intake", [said("hello"), said("hello")]) == 1
    assert await driver.publish("intake", [said("hello")]) == 0


async def test_a_stream_takes_only_what_it_carries() -> None:
    driver = Driver(TOPOLOGY)
    publish = Publisher(driver.mesh, TOPOLOGY.streams["intake"])
    line = said("hello")
    beat = Event(
        id=line.id, timestamp=line.timestamp, source="tour", payload=HeartbeatSeen(service="shop", healthy=True)
    )

    with pytest.raises(TopologyError, match="carries LogWritten, not HeartbeatSeen"):
        await publish([beat])
