"""What a task of several stages promises on every mesh: what each of them does alone, and nothing in between on the mesh."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.dead_letters import DeadLetters, drop, replay
from pipeline.engine.drive import Driver
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import partition_of
from pipeline.engine.verdict import HaltedError
from tables.aggregates import Count
from tables.table import Table
from tables.windows import Tumbling
from tests.contracts.chained import chain
from tests.contracts.counting import line, sample
from tests.contracts.meshes import MESHES, opened
from topology import Agent, Event, World
from topology.codec import encode
from topology.event import Payload
from topology.graph import Stage, Topology
from topology.payloads import ActionRequest, AnomalyDetected, EventDeadLettered, ReplayEnded
from topology.state import ClosedWindow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METRICS = ("m", "mm", "mmm", "m", "poison:after")


@pytest.fixture(params=MESHES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def signals(first: int, last: int, metrics: tuple[str, ...] = METRICS[:4]) -> list[Event[Payload]]:
    return [
        cast("Event[Payload]", sample(n, "abcd"[n % 4], n * 0.9, metrics[n % len(metrics)])) for n in range(first, last)
    ]


async def told(run: Driver, *streams: str) -> dict[str, list[bytes]]:
    return {name: sorted(encode(event) for event in await run.events(name)) for name in streams}


async def letters(run: Driver) -> list[tuple[str, str, str]]:
    found = [event.payload for event in await run.events("dead-letters")]
    return [(each.stage, each.key, each.error) for each in found if isinstance(each, EventDeadLettered)]


async def test_with_a_crash_after_each_step_all_comes_out_as_with_stored_streams(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened("memory", request) as calm, opened(kind, request) as shaken:
        apart, together = Driver(chain(stored=True), mesh=calm), Driver(chain(stored=False), mesh=shaken)
        for run in (apart, together):
            await run.publish("signals", [*signals(0, 40, METRICS), line(41, "a", 50)])
        await apart.run_until_idle()
        while await together.step(count=3):
            together.crash()
        streams = ("numbered", "lines", "late")
        assert await told(together, *streams) == await told(apart, *streams)
        assert sorted(await letters(together)) == sorted(await letters(apart))
        assert not await together.events("samples")
        assert not await together.events("counted")


class CountSeen(Agent[AnomalyDetected, AnomalyDetected]):
    """Counts what is found in windows that are called as those of the stage before are."""

    samples = Table("samples", key="service", window=Tumbling(timedelta(seconds=10)), value=Count)

    def process(self, event: Event[AnomalyDetected], world: World) -> Iterable[AnomalyDetected]:
        self.samples.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        subject = str(closed.start_us)
        yield AnomalyDetected(service=closed.key, system="", kind="count", subject=subject, value=closed.value)


async def test_a_window_given_up_by_one_stage_of_a_task_is_concluded_by_another_that_calls_it_the_same(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        run = Driver(with_agent(chain(stored=False, partitions=1), "forward", CountSeen), mesh=mesh)
        await run.publish("signals", [sample(n, "c", n, "x") for n in (1, 2, 3)])
        await run.publish("signals", [sample(4, "c", 12, "x")])
        await run.run_until_idle()
        assert await letters(run) == [("sum", "c", "PoisonedEventError")]
        [counted] = [event.payload for event in await run.events("numbered")]
        assert isinstance(counted, AnomalyDetected)
        assert (counted.service, counted.subject, counted.value) == ("c", "0", 3.0)


async def test_a_stage_within_a_task_may_take_less_than_is_passed_on(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened("memory", request) as calm, opened(kind, request) as mesh:
        some = "payload.metric == 'x' and payload.value > 1"
        apart, together = (Driver(chain(stored=s, where=some), mesh=m) for s, m in ((True, calm), (False, mesh)))
        for run in (apart, together):
            await run.publish("signals", signals(0, 20, ("x", "xy", "y")))
            await run.run_until_idle()
        assert await told(together, "numbered") == await told(apart, "numbered")
        assert {*await subjects(together, *"abcd")} == {"x"}


@pytest.mark.parametrize("read_at_once", [2, 3, 500])
async def test_dead_letters_of_a_stage_within_a_task_are_replayed_and_its_key_goes_on_in_order(
    kind: str, request: pytest.FixtureRequest, read_at_once: int
) -> None:
    async with opened(kind, request) as mesh:
        old = Driver(chain(stored=False, partitions=1), mesh=mesh)
        metrics = ("one", "poison:before", "two", "three")
        await old.publish("signals", [sample(n, "a", 1, metric) for n, metric in enumerate(metrics)])
        await old.publish("signals", [sample(9, "b", 1, "x")])
        await old.run_until_idle()
        assert await subjects(old) == [*"one", "x"]
        known = await followed(mesh)
        assert {(each.payload.stage, each.payload.stream, each.payload.key) for each in known.letters} == {
            ("sum", "samples", "a")
        }

        run = Driver(chain(stored=False, partitions=1, mended=True), mesh=mesh)
        await run.publish("signals", [sample(10, "a", 2, "before")])
        await mesh.publish(replay(known, run.topology, known.letters, now=NOW, by="me").requests)
        await run.publish("signals", [sample(11, "a", 2, "after"), sample(12, "b", 2, "y")])
        while await run.step(count=read_at_once):
            run.crash()
        of_a = [*"one", "mended:before", *"two", *"three", *"before", *"after"]
        assert await subjects(run, "a") == of_a
        assert await subjects(run, "b") == ["x", "y"]
        assert (await followed(mesh)).letters == []
        ended = [event.payload for event in await run.events("dead-letters") if isinstance(event.payload, ReplayEnded)]
        assert [(each.stage, each.again) for each in ended] == [("sum", 0)]


@pytest.mark.parametrize("read_at_once", [1, 500])
async def test_letters_of_several_stages_of_a_task_are_replayed_at_once(
    kind: str, request: pytest.FixtureRequest, read_at_once: int
) -> None:
    async with opened(kind, request) as mesh:
        old = Driver(chain(stored=False, partitions=1), mesh=mesh)
        metrics = ("poison:before", "one", "poison-split", "two", "poison:after")
        await old.publish("signals", [sample(n, "ab"[n % 2], 1, metric) for n, metric in enumerate(metrics * 3)])
        await old.run_until_idle()
        known = await followed(mesh)
        assert {each.payload.stage for each in known.letters} == {"split", "sum"}

        run = Driver(chain(stored=False, partitions=1, mended=True), mesh=mesh)
        await mesh.publish(replay(known, run.topology, known.letters, now=NOW, by="me").requests)
        await run.publish("signals", [sample(n, "ab"[n % 2], 2, "z") for n in range(100, 104)])
        while await run.step(count=read_at_once):
            run.crash()
        assert (await followed(mesh)).letters == []
        said = ("mended:before", *"one", *"mended", *"two", "mended:after")
        assert Counter(await subjects(run)) == Counter(said * 3) + Counter("zzzz")


async def test_letters_of_a_stage_within_a_task_are_dropped_and_its_key_goes_on(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        run = Driver(chain(stored=False, partitions=1), mesh=mesh)
        await run.publish("signals", [sample(1, "a", 1, "poison:before"), sample(2, "a", 1, "m")])
        await run.run_until_idle()
        known = await followed(mesh)
        await mesh.publish(drop(known, run.topology, known.letters, now=NOW, by="me").requests)
        await run.publish("signals", [sample(3, "a", 1, "x")])
        await run.run_until_idle()
        assert await subjects(run) == ["x"]
        assert (await followed(mesh)).letters == []


async def test_what_came_before_the_first_stage_halted_has_been_passed_on(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        graph = with_stage(chain(stored=False, partitions=1), "split", on_poison="halt")
        run = Driver(graph, mesh=mesh)
        await run.publish(
            "signals", [sample(1, "a", 1, "x"), sample(2, "a", 1, "poison-split"), sample(3, "a", 1, "y")]
        )
        for _ in range(2):
            with pytest.raises(HaltedError, match="split/0 halted"):
                await run.run_until_idle()
        assert await subjects(run) == ["x"]


async def test_what_would_leave_its_partition_becomes_a_dead_letter_that_says_what_to_do(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        run = Driver(chain(stored=False, on_poison="skip"), mesh=mesh)
        await run.publish("signals", [sample(n, "a", 1, "elsewhere") for n in range(8)])
        await run.run_until_idle()
        here = partition_of("a", 2)
        stayed = [
            event.payload.service
            for event in await run.events("numbered")
            if isinstance(event.payload, AnomalyDetected)
        ]
        assert {partition_of(service, 2) for service in stayed} == {here}
        refused = [event.payload for event in await run.events("dead-letters")]
        assert len(stayed) + len(refused) == 8
        assert refused
        for each in refused:
            assert isinstance(each, EventDeadLettered)
            assert (each.stage, each.error) == ("split", "TopologyError")
            assert "let the stage keep the key of what it read" in each.reason


class Sneaky(Agent[AnomalyDetected, AnomalyDetected]):
    """Asks although its ``process`` does not look like it."""

    def process(self, event: Event[AnomalyDetected], world: World) -> Any:
        return self._ask(event, world)

    async def _ask(self, event: Event[AnomalyDetected], world: World) -> AsyncIterable[AnomalyDetected]:
        request = ActionRequest(executor="echo", operation="say", target="a")
        report = await world.ask(ExecuteAction(request=request, idempotency_key="one"))
        yield event.payload.model_copy(update={"subject": report.detail})


async def test_a_stage_within_a_task_that_asks_after_all_is_told_that_it_must_not(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        run = Driver(with_agent(chain(stored=False, on_poison="skip"), "forward", Sneaky), mesh=mesh)
        await run.publish("signals", [sample(1, "a", 1, "m")])
        await run.run_until_idle()
        assert await letters(run) == [("forward", "a", "ImpureAgentError")]


async def followed(mesh: Mesh) -> DeadLetters:
    known = DeadLetters()
    await known.follow(mesh)
    return known


async def subjects(run: Driver, *services: str) -> list[str]:
    """What was seen, in order."""
    found: Iterable[Any] = [event.payload for event in await run.events("numbered")]
    return [each.subject for each in found if each.kind == "seen" and each.service in (services or "ab")]


def with_stage(topology: Topology, stage_id: str, **spec: object) -> Topology:
    """With other settings of one stage."""
    return _with(topology, stage_id, lambda stage: replace(stage, spec=stage.spec.model_copy(update=spec)))


def with_agent(topology: Topology, stage_id: str, agent: type[Agent[Any, Any]]) -> Topology:
    """With another agent in one stage."""
    return _with(topology, stage_id, lambda stage: replace(stage, agent_class=agent))


def _with(topology: Topology, stage_id: str, change: Any) -> Topology:
    def changed(stage: Stage) -> Stage:
        following = None if stage.next is None else changed(stage.next)
        return replace(change(stage) if stage.id == stage_id else stage, next=following)

    return replace(topology, stages=tuple(map(changed, topology.stages)))
