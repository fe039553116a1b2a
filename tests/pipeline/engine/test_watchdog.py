"""Partitions that stand still are noticed, restarted, and in the end left to another worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, ClassVar

import pytest

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.assignment import assign
from pipeline.engine.members import Member
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from tests.contracts.counting import AskWorld, Echo, line
from tests.contracts.counting import topology as counting
from tests.pipeline.engine.stages import topology_of
from tests.pipeline.engine.working import events, publish, running
from tests.polling import eventually
from topology import Agent, Event, World
from topology.graph import Topology
from topology.payloads import AnomalyDetected, LogWritten

pytestmark = pytest.mark.servers


@pytest.fixture
async def mesh(redis_url: str) -> AsyncIterator[RedisMesh]:
    mesh = RedisMesh.connect(redis_url, "t")
    yield mesh
    await mesh.close()


class Silent:
    """Answers nobody for so many times, then everybody."""

    def __init__(self, times: float) -> None:
        self._times = times
        self.asked = 0

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        self.asked += 1
        if self.asked <= self._times:
            await asyncio.Event().wait()
        return ExecutionReport(status="succeeded", detail=question.idempotency_key)


class Cancelling(Agent[LogWritten, AnomalyDetected]):
    """Raises what is no exception of an agent, as a library that mishandles cancellation does."""

    lines: ClassVar[int] = 0

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        type(self).lines += 1
        raise asyncio.CancelledError


class Telling(Agent[LogWritten, AnomalyDetected]):
    """Says each line."""

    def process(self, event: Event[LogWritten], world: World) -> Iterable[AnomalyDetected]:
        service = event.payload.service
        yield AnomalyDetected(service=service, system=service, kind="line", subject=event.payload.message)


class Speaking:
    """Keeps publishing lines of one service while something is waited for."""

    def __init__(self, mesh: RedisMesh, graph: Topology) -> None:
        self._mesh = mesh
        self._graph = graph
        self.said = 0

    async def until(self, condition: Callable[[], Any], saying: str, within_s: float = 20.0) -> None:
        async def speak() -> bool:
            self.said += 1
            await publish(self._mesh, self._graph, [line(self.said, "a", self.said)])
            return bool(condition())

        await eventually(speak, saying=saying, within_s=within_s)

    async def all_found(self) -> None:
        """Everything that was said was processed, once and in order."""

        async def found() -> bool:
            return len(await events(self._mesh, self._graph, "findings")) == self.said

        await eventually(found, saying="everything is processed")
        findings = [event.payload.subject for event in await events(self._mesh, self._graph, "findings")]
        assert [subject.split(" asked")[0] for subject in findings] == [f"line {n}" for n in range(1, self.said + 1)]


def worker(mesh: RedisMesh, graph: Topology, answer: Any = None, *, name: str = "one", **options: Any) -> Worker:
    return Worker(mesh, graph, {ExecuteAction: answer or Echo()}, name=name, stalled_s=0.4, **options)


async def test_a_question_that_is_never_answered_is_put_again(mesh: RedisMesh) -> None:
    graph, silent = topology_of(AskWorld), Silent(2)
    one, speaking = worker(mesh, graph, silent), Speaking(mesh, graph)
    async with running(one):
        await speaking.until(lambda: one.counts.stalled == 1, "it is noticed")
        assert "stage/0 has not moved" in one.troubles[0]
        await speaking.until(lambda: silent.asked > 2, "it is asked again, until there is an answer")
        await speaking.all_found()
        await speaking.until(lambda: one.troubles == [], "the trouble is over")
    assert (one.counts.stalled, one.counts.restored, one.counts.given_up) == (2, 2, 0)


def owner_and_other() -> tuple[str, str]:
    """Of two workers of one stage with one partition, whose it is."""
    owner = assign([Member(name, {"stage": 1}) for name in ("one", "two")])["stage", 0]
    return owner, "two" if owner == "one" else "one"


async def test_a_partition_that_restarts_do_not_help_goes_to_another_worker(mesh: RedisMesh) -> None:
    graph = topology_of(AskWorld)
    first, second = owner_and_other()
    deaf, sound = worker(mesh, graph, Silent(float("inf")), name=first), worker(mesh, graph, name=second)
    speaking = Speaking(mesh, graph)
    async with running(deaf):
        await eventually(lambda: deaf.owned, saying="it has it")
        async with running(sound):
            await speaking.until(lambda: sound.owned, "the other one has it")
            await speaking.all_found()
            assert deaf.owned == []
    assert (deaf.counts.stalled, deaf.counts.restored, deaf.counts.given_up) == (4, 3, 1)
    assert deaf.counts.fenced == sound.counts.fenced == 0


@pytest.mark.slow
async def test_a_step_that_raises_again_and_again_stops_neither_others_nor_for_ever(mesh: RedisMesh) -> None:
    broken, mended = topology_of(Cancelling), topology_of(Telling)
    first, second = owner_and_other()
    Cancelling.lines = 0
    bad, good = worker(mesh, broken, name=first), worker(mesh, mended, name=second)
    async with running(bad):
        await eventually(lambda: bad.owned, saying="the broken one has it")
        async with running(good):
            await publish(mesh, mended, [line(n, "a", n) for n in range(1, 6)])
            await eventually(lambda: bad.troubles, saying="it is said", seen=lambda: bad.counts)
            assert "CancelledError" in bad.troubles[0]

            async def done() -> bool:
                return len(await events(mesh, mended, "findings")) == 5

            await eventually(done, saying="the other one does it", within_s=20)
    assert bad.counts.given_up == 1
    assert Cancelling.lines == 4, "once, and after each of three restarts"


async def test_a_lag_that_only_stays_is_no_stall(mesh: RedisMesh) -> None:
    graph, silent = topology_of(AskWorld), Silent(1)
    one = worker(mesh, graph, silent)
    async with running(one):
        await publish(mesh, graph, [line(1, "a", 1), line(2, "a", 2)])
        await eventually(lambda: silent.asked, saying="it is asked")
        until_s = time.monotonic() + 1.5

        def long_enough() -> bool:
            assert one.counts.stalled == 0
            return time.monotonic() > until_s

        await eventually(long_enough, saying="several looks pass")


async def test_workers_of_some_stages_share_what_each_can_run(mesh: RedisMesh) -> None:
    graph = counting()
    one = Worker(mesh, graph, {ExecuteAction: Echo()}, name="one", stages=["count-windows"])
    two = Worker(mesh, graph, {ExecuteAction: Echo()}, name="two", stages=["ask-world", "forward"])
    async with running(one, two):
        await eventually(lambda: len(one.owned) == 3 and len(two.owned) == 6, saying="nothing is left without an owner")


def test_a_member_is_read_as_it_was_written() -> None:
    for member in (
        Member("a"),
        Member("a", {"x": 3, "y": 16}),
        Member("b", {"x": 1}, frozenset({("x", 0), ("z", 2)})),
    ):
        assert Member.of(member.name, member.takes) == member
    assert Member.of("watching", "") == Member("watching")
