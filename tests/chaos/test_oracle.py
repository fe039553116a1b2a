"""The oracle agrees with an undisturbed run, and sees each kind of thing that must not happen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.outputs import OPERATION_STREAMS
from tests.chaos.loop_under_test import signals, topology
from tests.chaos.oracle import Judgement, judge
from topology.event import Event

Lists = dict[str, list[list[Event[Any]]]]


async def say(question: ExecuteAction) -> ExecutionReport:
    return ExecutionReport(status="succeeded", detail=question.idempotency_key)


@pytest.fixture(scope="module")
def undisturbed() -> Lists:
    """Everything on the streams after a calm run."""
    return asyncio.run(calm_run())


async def calm_run() -> Lists:
    mesh = MemoryMesh(lambda: 0)
    run = Driver(topology(), {ExecuteAction: say}, mesh=mesh)
    await run.publish("signals", list(islice(signals(random.Random(1), "calm"), 1_500)))
    await run.run_until_idle()
    log: Lists = {}
    for stream in [*topology().streams.values(), *OPERATION_STREAMS]:
        log[stream.name] = [[] for _ in range(stream.partitions)]
        for record in mesh.records(stream.name):
            log[stream.name][record.partition].append(record.event)
    return log


def disturbed(log: Lists, disturb: Callable[[Lists], None]) -> Judgement:
    copied = {stream: [list(events) for events in partitions] for stream, partitions in log.items()}
    disturb(copied)
    return judge(copied)


def test_an_undisturbed_run_is_what_the_oracle_says(undisturbed: Lists) -> None:
    kinds = {event.payload.kind for events in undisturbed["findings"] for event in events}
    judgement = disturbed(undisturbed, lambda log: None)

    assert (judgement.lost, judgement.double, judgement.order_violations, judgement.evidence) == (0, 0, 0, [])
    assert kinds == {"count", "answer"}
    assert undisturbed["late"][0], "some came late"


@pytest.mark.parametrize("stream", ["findings", "numbered", "incidents", "late", "answers"])
def test_what_is_missing_is_lost(undisturbed: Lists, stream: str) -> None:
    def remove(log: Lists) -> None:
        log[stream][0].pop()

    assert disturbed(undisturbed, remove).lost >= 1


@pytest.mark.parametrize("stream", ["findings", "numbered", "incidents", "late", "answers"])
def test_what_is_there_twice_is_double(undisturbed: Lists, stream: str) -> None:
    assert disturbed(undisturbed, lambda log: log[stream][0].append(log[stream][0][-1])).double >= 1


@pytest.mark.parametrize("stream", ["numbered", "incidents"])
def test_what_is_out_of_order_is_seen(undisturbed: Lists, stream: str) -> None:
    def swap(log: Lists) -> None:
        events = log[stream][0]
        key = events[0].payload.system
        first, second = [n for n, event in enumerate(events) if event.payload.system == key][:2]
        events[first], events[second] = events[second], events[first]

    assert disturbed(undisturbed, swap).order_violations >= 1


@pytest.mark.parametrize(("by", "found"), [(1, "double"), (-1, "lost")])
def test_a_count_that_is_off_is_seen(undisturbed: Lists, by: int, found: str) -> None:
    def miscount(log: Lists) -> None:
        findings = log["findings"][0]
        at, event = next((n, event) for n, event in enumerate(findings) if event.payload.kind == "count")
        payload = event.payload.model_copy(update={"value": event.payload.value + by})
        findings[at] = replace(event, payload=payload)

    assert getattr(disturbed(undisturbed, miscount), found) == 1
