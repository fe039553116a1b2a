"""A worker whose stages ask the world, on a real Redis: what waits, what does not, and what becomes of answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.keys import Keys
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.supervision import Routine
from pipeline.engine.worker import Worker
from tests.contracts.counting import AGENTS, line, sample
from tests.pipeline.engine.stages import told, topology_of
from tests.pipeline.engine.working import Gate, asking, events, idle, publish, running, worker
from tests.polling import eventually
from topology import Agent, Event, World
from topology.errors import RetryableError
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten
from topology.resolve import resolve
from topology.spec import StageSpec, TopologySpec

pytestmark = pytest.mark.servers


async def is_(found: Any, expected: object) -> bool:
    return bool(await found() == expected)


async def test_a_slow_answer_holds_up_its_own_key_only(mesh: RedisMesh) -> None:
    graph, gate = asking(), Gate("line 0")
    async with running(worker(mesh, graph, gate)):
        await publish(
            mesh, graph, [line(0, "slow", 0), line(1, "slow", 1), *(line(n, f"s{n}", n) for n in range(2, 9))]
        )

        async def answered() -> list[str]:
            return sorted(e.payload.service for e in await events(mesh, graph, "findings"))

        others = [f"s{n}" for n in range(2, 9)]
        await eventually(lambda: is_(answered, others), saying="the others are answered", seen=answered)
        gate.open()
        await eventually(lambda: is_(answered, sorted([*others, "slow", "slow"])), saying="all are", seen=answered)
    assert set(gate.asked.values()) == {1}


async def test_no_more_keys_wait_for_the_world_at_once_than_declared(mesh: RedisMesh) -> None:
    graph, gate = asking(concurrency=3), Gate("*")
    async with running(worker(mesh, graph, gate)):
        await publish(mesh, graph, [line(n, f"s{n}", n) for n in range(20)])
        await eventually(lambda: gate.at_once == 3, saying="three are asked", seen=lambda: gate.at_once)
        gate.open()
        await eventually(lambda: idle(mesh, graph), saying="everything is committed")
    assert gate.at_once == 3
    assert len(await events(mesh, graph, "findings")) == 20


async def test_a_stage_that_waits_does_not_hold_up_others_of_the_same_stream(mesh: RedisMesh) -> None:
    spec = asking(concurrency=1)
    counting = StageSpec(id="count-windows", agent="counting:CountWindows", consumes=("signals",), emits=("findings",))
    streams = {name: stream.spec for name, stream in spec.streams.items()}
    both = TopologySpec(name="both", streams=streams, stages=(spec.stages[0].spec, counting))
    graph, gate = resolve(both, lambda name: AGENTS[name]), Gate("*")
    async with running(worker(mesh, graph, gate)):
        for n in range(0, 3_000, 500):
            await publish(mesh, graph, [line(m, "a", m) for m in range(n, n + 500)])
        await publish(mesh, graph, [sample(1, "b", 5_000), sample(2, "b", 5_020)])

        async def counted() -> bool:
            return [e.payload.subject for e in await events(mesh, graph, "findings")] == ["5000000000"]

        await eventually(counted, saying="the windows close while the other stage waits")


async def test_what_nobody_can_answer_is_tried_with_pauses_and_becomes_a_dead_letter(mesh: RedisMesh) -> None:
    asked_at: list[float] = []

    async def away(question: ExecuteAction) -> ExecutionReport:
        asked_at.append(time.monotonic())
        msg = "the executor is away"
        raise RetryableError(msg)

    graph = asking(retry={"attempts": 3, "first_pause": "50ms"}, on_poison="skip")
    async with running(worker(mesh, graph, away)):
        await publish(mesh, graph, [line(1, "a", 1)])
        [letter] = await eventually(lambda: events(mesh, graph, "dead-letters"), saying="a dead letter")

    assert (letter.payload.attempts, letter.payload.error) == (3, "AnswerFailedError")
    assert "the executor is away" in letter.payload.reason
    first, second = (later - sooner for sooner, later in pairwise(asked_at))
    assert first >= 0.05
    assert second >= 0.1


@pytest.mark.parametrize("handlers", [{}, {ExecuteAction: None}], ids=["nobody answers", "the handler is broken"])
async def test_a_question_that_cannot_be_put_is_a_dead_letter_with_the_reason(
    mesh: RedisMesh, handlers: dict[Any, Any]
) -> None:
    async def broken(question: ExecuteAction) -> ExecutionReport:
        msg = "a defect \udc80"
        raise ZeroDivisionError(msg)

    graph = asking()
    one = Worker(mesh, graph, dict.fromkeys(handlers, broken), name="one")
    async with running(one):
        await publish(mesh, graph, [line(1, "a", 1)])
        [letter] = await eventually(lambda: events(mesh, graph, "dead-letters"), saying="a dead letter")
    assert ("a defect ?" if handlers else "nobody answers ExecuteAction") in letter.payload.reason
    assert letter.payload.attempts == 1


async def test_what_is_asked_for_a_lost_partition_is_cancelled_and_asked_by_the_new_owner(
    mesh: RedisMesh, redis: Any
) -> None:
    graph, gate = asking(), Gate("*")
    one = worker(mesh, graph, gate)
    async with running(one):
        await publish(mesh, graph, [line(1, "a", 1)])
        await eventually(lambda: gate.asked, saying="the question is asked")
        await redis.set(Keys("t").owned("ask-world", 0, "lease"), "99 somebody", px=1_500)
        await eventually(lambda: gate.cancelled == ["line 1"], saying="it is cancelled")
        assert one.counts.fenced == 1
        gate.open()
        await eventually(lambda: idle(mesh, graph), saying="whoever owns it next asks again")
    assert gate.asked == {"line 1": 2}
    assert len(await events(mesh, graph, "findings")) == 1


async def test_an_answer_that_comes_back_after_the_lease_was_lost_has_no_effect(mesh: RedisMesh, redis: Any) -> None:
    graph, gate = asking(), Gate("*")
    one = worker(mesh, graph, gate, lease_s=60)  # it will not look after its leases before the answer comes
    async with running(one):
        await publish(mesh, graph, [line(1, "a", 1)])
        await eventually(lambda: gate.asked, saying="the question is asked")
        await redis.set(Keys("t").owned("ask-world", 0, "lease"), "99 somebody", px=300)
        gate.open()
        await eventually(lambda: one.counts.fenced == 1, saying="it is fenced", within_s=3)
        await eventually(lambda: idle(mesh, graph), saying="then it owns the partition again")
    assert len(await events(mesh, graph, "findings")) == 1


async def test_an_answer_that_comes_too_late_for_its_lease_is_kept_for_the_next_one(
    mesh: RedisMesh, redis: Any
) -> None:
    graph, gate = asking(), Gate("*")
    one = worker(mesh, graph, gate, lease_s=60)
    async with running(one):
        await publish(mesh, graph, [line(1, "a", 1)])
        await eventually(lambda: gate.asked, saying="the question is asked")
        await redis.delete(Keys("t").owned("ask-world", 0, "lease"))  # as if the worker had been too busy to renew it
        gate.open()
        await eventually(lambda: one.counts.fenced == 1, saying="it is fenced", within_s=3)
        await eventually(lambda: idle(mesh, graph), saying="then it owns the partition again")
    assert gate.asked == {"line 1": 1}, "nobody else was there to ask"
    assert [e.payload.subject for e in await events(mesh, graph, "findings")] == ["line 1 asked 1 time(s)"]


class AsksAgain(Agent[LogWritten, AnomalyDetected]):
    """Asks two questions, one after the other."""

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        request = ActionRequest(executor="echo", operation="say", target=event.payload.service)
        first = await world.ask(ExecuteAction(request=request, idempotency_key="first"))
        second = await world.ask(ExecuteAction(request=request, idempotency_key="second"))
        yield told(event.payload.service, f"{first.detail}, {second.detail}")


async def test_an_answer_that_the_server_forgot_is_not_asked_for_again(mesh: RedisMesh, redis: Any) -> None:
    graph, gate = topology_of(AsksAgain), Gate("second")
    one = worker(mesh, graph, gate)
    routine = Routine("worker", one.run, stop=one.stop)
    await routine.start()
    await publish(mesh, graph, [line(1, "a", 1)])
    await eventually(lambda: gate.asked.get("second"), saying="the first answer is recorded, and the second not given")
    # What is not on the disk yet when a server is killed, although it had said that it was done.
    assert await redis.delete(Keys("t").owned("stage", 0, "answers")) == 1
    await redis.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
    await eventually(lambda: routine.restarts, saying="the worker begins again")
    gate.open()
    await eventually(lambda: idle(mesh, graph), saying="the line is done")
    await routine.stop()
    assert gate.asked == {"first": 1, "second": 1}
    assert len(await events(mesh, graph, "findings")) == 1
    assert await redis.exists(Keys("t").owned("stage", 0, "answers")) == 0, "nothing is left over"
    assert not any(one._asker._asked.values())
