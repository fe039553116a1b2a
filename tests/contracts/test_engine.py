"""What a topology promises on every mesh: nothing lost, nothing counted twice, no answer asked for twice."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.drive import Driver
from pipeline.engine.mesh import Mesh
from tests.contracts.counting import Echo, line, sample, topology
from tests.contracts.meshes import MESHES, opened
from topology.event import Event, Payload
from topology.payloads import AnomalyDetected, EntryCameLate, EventDeadLettered


@pytest.fixture(params=MESHES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def driver(mesh: Mesh, echo: Echo, **topology_arguments: str) -> Driver:
    return Driver(topology(**topology_arguments), {ExecuteAction: echo}, mesh=mesh)  # type: ignore[arg-type]


def told(events: list[Event[Payload]]) -> list[tuple[str, str, float | None]]:
    return sorted(
        (e.payload.service, e.payload.subject, e.payload.value)
        for e in events
        if isinstance(e.payload, AnomalyDetected)
    )


async def test_windows_are_counted_and_closed_by_event_time(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        run = driver(mesh, Echo())
        await run.publish("signals", [sample(n, "a", at_s) for n, at_s in enumerate([1, 2, 11, 12, 13, 21])])
        await run.run_until_idle()
        assert told(await run.events("numbered")) == [("a", "0", 2.0), ("a", "10000000", 3.0)]


async def test_a_late_event_goes_to_the_late_output(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        run = driver(mesh, Echo())
        late = sample(3, "a", 5)
        await run.publish("signals", [sample(1, "a", 1), sample(2, "a", 11), late, sample(4, "a", 21)])
        await run.run_until_idle()

        assert told(await run.events("numbered")) == [("a", "0", 1.0), ("a", "10000000", 1.0)]
        [entry] = await run.events("late")
        assert isinstance(entry.payload, EntryCameLate)
        assert (entry.payload.table, entry.payload.event) == ("samples", late.id)


async def test_a_crash_after_any_commit_changes_no_output(kind: str, request: pytest.FixtureRequest) -> None:
    signals: list[Event[Payload]] = []
    for n in range(60):
        signals.append(sample(n, f"s{n % 5}", n * 0.7))
        if n % 4 == 0:
            signals.append(line(n, f"s{n % 5}", n * 0.7, level="warning" if n % 8 == 0 else "info"))

    async def outputs(mesh: Mesh, echo: Echo, *, crash_every: int) -> list[bytes]:
        run = driver(mesh, echo)
        await run.publish("signals", signals)
        steps = 0
        while await run.step(count=3):
            steps += 1
            if steps % crash_every == 0:
                run.crash()
        from topology.codec import encode

        return sorted(encode(event) for event in await run.events("numbered"))

    async with opened("memory", request) as calm, opened(kind, request) as shaken:
        echo = Echo()
        assert await outputs(shaken, echo, crash_every=1) == await outputs(calm, Echo(), crash_every=10**9)
        assert set(echo.asked.values()) == {1}, "no answer is asked for twice"


async def test_a_poisoned_event_parks_its_key_and_nobody_elses(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        run = driver(mesh, Echo())
        await run.publish(
            "signals",
            [
                sample(1, "a", 1),
                sample(2, "b", 1),
                sample(3, "a", 2, "poison"),
                sample(4, "a", 3),
                sample(5, "b", 21),
                sample(6, "c", 21),
            ],
        )
        await run.run_until_idle()

        letters = [e.payload for e in await run.events("dead-letters") if isinstance(e.payload, EventDeadLettered)]
        assert [(letter.key, letter.error) for letter in letters] == [("a", "PoisonedEventError"), ("a", "KeyParked")]
        assert ("b", "0", 1.0) in told(await run.events("numbered"))
        run.crash()
        await run.publish("signals", [sample(7, "a", 30)])
        await run.run_until_idle()
        assert len(await run.events("dead-letters")) == 3, "the key stays parked over a restart"


async def test_a_skipped_poison_leaves_its_key_going(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        run = driver(mesh, Echo(), on_poison="skip")
        await run.publish(
            "signals", [sample(1, "a", 1), sample(2, "a", 2, "poison"), sample(3, "a", 3), sample(4, "a", 21)]
        )
        await run.run_until_idle()

        assert len(await run.events("dead-letters")) == 1
        assert told(await run.events("numbered")) == [("a", "0", 2.0)], (
            "what the poisoned event had counted is forgotten"
        )


async def test_order_holds_per_key_over_two_hops(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        run = driver(mesh, Echo())
        await run.publish("signals", [line(n, f"s{n % 3}", n) for n in range(30)])
        await run.run_until_idle()

        scores: dict[str, list[float]] = {}
        for event in await run.events("numbered"):
            assert isinstance(event.payload, AnomalyDetected)
            scores.setdefault(event.payload.service, []).append(event.payload.score or 0)
        assert Counter({service: len(s) for service, s in scores.items()}) == Counter({"s0": 10, "s1": 10, "s2": 10})
        assert all(s == sorted(s) for s in scores.values())
