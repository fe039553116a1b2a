"""``aiops bench backtest``: how fast a recorded stream runs through the driver, in this process and without a server."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import median
from typing import Any

from pipeline.bench.oracle import refuse_wrong_counts
from pipeline.bench.stages import INPUT, OUTPUT, topology
from pipeline.bench.workload import Windows, Workload, counted_windows
from pipeline.engine.drive import Driver
from pipeline.loading import load_topology
from topology.codec import decode
from topology.event import Event, Payload
from topology.graph import Topology
from topology.ids import derived_id
from topology.moments import from_us, to_us
from topology.payloads.signals import HeartbeatSeen, LogWritten, MetricSampled

EVENTS, QUICK_EVENTS = 100_000, 5_000
ROUNDS, QUICK_ROUNDS = 3, 1
_KEYS = 100
_SERVICES = 20
_METRICS = ("cpu", "memory", "requests", "errors", "latency")
_DETECTORS = "agents.monitor."
_NOT_DETECTORS = ("agents.monitor.correlate",)

Tell = Callable[[str], None]


async def measure(*, events: int, rounds: int, tell: Tell) -> dict[str, Any]:
    """A windowed count, and all detectors that ship, so many times each.

    Raises:
        WrongResultError: the windows are wrong; there are no figures then.
    """
    samples = list(Workload(events, _KEYS).samples())
    expected = counted_windows(iter(samples), _KEYS)
    recorded = [decode(sample.value) for sample in samples]
    signals = list(_signals(events))
    rates: dict[str, list[float]] = {"count": [], "detectors": []}
    for number in range(rounds):
        rates["count"].append(await _count(recorded, expected))
        rates["detectors"].append(await _detect(signals))
        tell(
            f"round {number + 1} of {rounds}: " + ", ".join(f"{name} {each[-1]:,.0f}/s" for name, each in rates.items())
        )
    return {
        "events": events,
        "rounds": rounds,
        "cases": {
            name: {"events_per_cpu_s": round(median(each)), "range": [round(min(each)), round(max(each))]}
            for name, each in rates.items()
        },
    }


async def _count(recorded: Sequence[Event[Payload]], expected: Windows) -> float:
    driver = Driver(topology("count", keys=_KEYS, partitions=1))
    began_s = time.process_time()
    await driver.publish(INPUT, recorded)
    await driver.run_until_idle()
    took_s = time.process_time() - began_s
    said = await driver.events(OUTPUT)
    found = {(each.payload.service, to_us(each.timestamp)): int(each.payload.value) for each in said}  # type: ignore[attr-defined]
    refuse_wrong_counts(expected, found, repeated=len(said) - len(found))
    return len(recorded) / took_s


async def _detect(signals: Sequence[Event[Payload]]) -> float:
    driver = Driver(_detectors(), start_us=to_us(signals[0].timestamp))
    began_s = time.process_time()
    for second_us, some in groupby(signals, key=lambda event: to_us(event.timestamp) // 1_000_000 * 1_000_000):
        await driver.advance_to(second_us)  # with the ticks that timers need
        await driver.publish("intake", list(some))
    await driver.run_until_idle()
    return len(signals) / (time.process_time() - began_s)


def _detectors() -> Topology:
    """The topology that ships, as far as its detectors."""
    shipped = load_topology()
    stages = [
        stage
        for stage in shipped.stages
        if stage.spec.agent.startswith(_DETECTORS) and not stage.spec.agent.startswith(_NOT_DETECTORS)
    ]
    return replace(shipped, stages=tuple(stages))


def _signals(events: int) -> Iterator[Event[Payload]]:
    """What twenty services say in seconds of peace: metrics, log lines and answers to probes."""
    chance = random.Random(7)  # noqa: S311 - repeatable on purpose
    start_us, services = Workload(1, 1).start_us, [f"service-{number}" for number in range(_SERVICES)]
    kinds = len(_METRICS) + 2
    for number in range(events):
        turn, kind = divmod(number // _SERVICES, kinds)
        name = services[number % _SERVICES]
        yield Event(
            id=derived_id("bench", number),
            timestamp=from_us(start_us + turn * 1_000_000 + kind * 1_000),
            source="bench",
            payload=_payload(chance, name, kind),
        )


def _payload(chance: random.Random, name: str, kind: int) -> Payload:
    if kind < len(_METRICS):
        return MetricSampled(service=name, metric=_METRICS[kind], value=100 + chance.gauss(0, 5))
    if kind == len(_METRICS):
        return LogWritten(service=name, message=f"request {chance.randrange(10_000)} took {chance.randrange(90)} ms")
    return HeartbeatSeen(service=name, healthy=True, latency_ms=chance.uniform(5, 15))
