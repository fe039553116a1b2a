"""What a worker makes of agents, answerers and servers that do what they should not; on a memory mesh, in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import pytest

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.members import Member, members_of
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Lease, LostWritesError
from pipeline.engine.record import partition_of
from tests.contracts.counting import line, sample
from tests.pipeline.engine.stages import Picky, topology_of
from tests.pipeline.engine.working import Gate, asking, events, idle, publish, running, worker
from tests.polling import eventually
from topology.agent import World
from topology.errors import ConfigurationError
from topology.event import Event
from topology.payloads import AnomalyDetected, MetricSampled


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_many_partitions_of_a_slow_agent_do_not_cost_the_lease() -> None:
    class Slow(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            time.sleep(0.001)
            return super().process(event, world)

    graph, mesh = topology_of(Slow, partitions=20), MemoryMesh(now_ms)
    await publish(mesh, graph, [sample(n, f"s{n % 200}", n) for n in range(2_000)])
    one = worker(mesh, graph, lease_s=1.0)  # a turn of each takes two seconds
    async with running(one):
        await eventually(lambda: idle(mesh, graph), saying="everything is committed", within_s=30)
    assert one.counts.fenced == 0
    assert len(await events(mesh, graph, "findings")) == 2_000


class Forgetful(MemoryMesh):
    """Finds out that its server lost writes when the next answer is to be recorded."""

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        msg = "the server does not know event 7-0 of elsewhere/3"
        raise LostWritesError(msg)


async def test_an_answer_that_cannot_be_kept_since_the_server_lost_writes_ends_the_run_and_blames_no_event() -> None:
    graph, mesh = asking(), Forgetful(now_ms)
    await publish(mesh, graph, [line(1, "a", 1)])
    with pytest.raises(LostWritesError):
        await asyncio.wait_for(worker(mesh, graph).run(), 10)
    assert await events(mesh, graph, "dead-letters") == []


class GivesUp:
    """Ends as what it waited for was cancelled."""

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        waiting = asyncio.create_task(asyncio.sleep(60))
        waiting.cancel()
        await waiting
        raise AssertionError


async def test_who_answers_with_a_cancellation_has_not_answered() -> None:
    graph, mesh = asking(), MemoryMesh(now_ms)
    async with running(worker(mesh, graph, GivesUp())):
        await publish(mesh, graph, [line(1, "a", 1)])
        await eventually(lambda: idle(mesh, graph), saying="the event is given up")
    (letter,) = await events(mesh, graph, "dead-letters")
    assert "cancelled" in letter.payload.reason


async def test_an_agent_that_cannot_shut_down_keeps_no_partition_from_being_given_back() -> None:
    class Clinging(Picky):
        async def shutdown(self) -> None:
            msg = "not yet"
            raise RuntimeError(msg)

    graph, mesh = topology_of(Clinging, partitions=4), MemoryMesh(now_ms)
    one, two = worker(mesh, graph, name="one", lease_s=60), worker(mesh, graph, name="two", lease_s=60)

    def both_have_two() -> bool:
        return [len(one.owned), len(two.owned)] == [2, 2]

    async with running(one):
        await eventually(lambda: len(one.owned) == 4 and not one.restoring, saying="one has everything")
        async with running(two):
            await eventually(both_have_two, saying="they share", seen=lambda: (one.owned, two.owned))
        await eventually(lambda: len(one.owned) == 4, saying="what two had was given back")


async def test_a_round_that_is_broken_off_is_gone_on_with_where_it_was() -> None:
    turns: list[str] = []

    class Slow(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            time.sleep(0.002)
            if not turns or turns[-1] != event.payload.service:
                turns.append(event.payload.service)
            return super().process(event, world)

    graph, mesh = topology_of(Slow, partitions=20, records_per_step=20), MemoryMesh(now_ms)
    service_of = {partition_of(f"s{n}", 20): f"s{n}" for n in range(200)}  # one for each partition
    one = worker(mesh, graph)
    async with running(one):
        await eventually(lambda: len(one.owned) == 20 and not one.restoring, saying="it has everything")
        await publish(mesh, graph, [sample(n, service_of[n % 20], n) for n in range(20 * 60)])
        await eventually(lambda: idle(mesh, graph), saying="everything is committed", within_s=30)
    rounds = [turns[first : first + 20] for first in range(0, 60, 20)]
    assert [len(set(each)) for each in rounds] == [20, 20, 20], "nobody has another turn before all had one"


class UnfitOnce(MemoryMesh):
    """Refuses the first answer for a reason of its own."""

    refused = False

    async def record_answer(self, lease: Lease, key: str, answer: bytes) -> None:
        if not self.refused:
            self.refused = True
            msg = "this user may not write"
            raise ConfigurationError(msg)
        await super().record_answer(lease, key, answer)


async def test_what_ended_one_run_does_not_end_the_next_one_and_the_answer_is_not_asked_for_again() -> None:
    graph, mesh, gate = asking(), UnfitOnce(now_ms), Gate()
    await publish(mesh, graph, [line(1, "a", 1)])
    one = worker(mesh, graph, gate)
    with pytest.raises(ConfigurationError):
        await asyncio.wait_for(one.run(), 10)
    async with running(one):
        await eventually(lambda: idle(mesh, graph), saying="it is done")
    (said,) = await events(mesh, graph, "findings")
    assert said.payload.service == "a"


async def test_an_answer_is_not_kept_once_it_is_committed_what_came_of_it() -> None:
    graph, mesh = asking(), MemoryMesh(now_ms)
    one = worker(mesh, graph)
    async with running(one):
        await publish(mesh, graph, [line(n, f"s{n}", n) for n in range(50)])
        await eventually(lambda: idle(mesh, graph), saying="everything is committed")
        assert one._asker._asked == {("ask-world", 0): {}}


async def test_a_partition_that_was_given_up_is_taken_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cancelling(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            raise asyncio.CancelledError

    monkeypatch.setattr("pipeline.engine.watchdog._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("pipeline.engine.tenure.GIVEN_UP_S", 1.0)
    graph, mesh = topology_of(Cancelling), MemoryMesh(now_ms)
    one = worker(mesh, graph)
    seen: list[bool] = []

    async def gave_it_up_and_takes_it_again() -> bool:
        alive = members_of(await mesh.join("onlooker", 60))
        (member,) = [each for each in alive if each.name == "one"] or [Member("one")]
        gave_up = bool(member.without)
        if not seen or seen[-1] != gave_up:
            seen.append(gave_up)
        return seen[-2:] == [True, False]

    await publish(mesh, graph, [sample(1, "a", 1)])
    async with running(one):
        await eventually(gave_it_up_and_takes_it_again, saying="it takes it again", seen=lambda: seen, within_s=20)


class Uncountable(dict[str, int]):
    """Cannot be added up the first time."""

    tries = 0

    def values(self) -> Any:
        type(self).tries += 1
        if type(self).tries == 1:
            msg = "who knows"
            raise RuntimeError(msg)
        return super().values()


async def test_a_commit_that_could_not_be_put_together_is_not_made_by_halves() -> None:
    class Miscounts(Picky):
        def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
            self.count.evicted = Uncountable()
            return super().process(event, world)

    graph, mesh = topology_of(Miscounts), MemoryMesh(now_ms)
    await publish(mesh, graph, [sample(n, "a", n) for n in range(10)])
    one = worker(mesh, graph)
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(one.run(), 10)
    async with running(one):
        await eventually(lambda: idle(mesh, graph), saying="everything is committed")
    assert [found.payload.value for found in await events(mesh, graph, "findings")] == list(range(1, 11))
