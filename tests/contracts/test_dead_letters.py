"""What becomes of dead letters on every mesh: replayed or dropped once, in order, and their key released."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.dead_letters import DeadLetter, DeadLetters, Decision, drop, release, replay
from pipeline.engine.drive import Driver
from pipeline.engine.mesh import Mesh
from tests.contracts.counting import Echo, line
from tests.contracts.mending import release as released
from tests.contracts.meshes import MESHES, opened
from topology.errors import UsageError
from topology.graph import Topology
from topology.ids import derived_id
from topology.payloads import AnomalyDetected, LettersTaken, ReplayEnded

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=MESHES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def driver(mesh: Mesh, topology: Topology) -> Driver:
    return Driver(topology, {ExecuteAction: Echo()}, mesh=mesh)


async def known(mesh: Mesh) -> DeadLetters:
    letters = DeadLetters()
    await letters.follow(mesh)
    return letters


def of(letters: DeadLetters, stage: str, *keys: str) -> list[DeadLetter]:
    return [each for each in letters.letters if each.payload.stage == stage and each.payload.key in (keys or "abc")]


async def lines(run: Driver, stream: str = "numbered") -> list[tuple[str, str, float | None]]:
    return [
        (event.payload.service, event.payload.subject.removeprefix("line "), event.payload.value)
        for event in await run.events(stream)
        if isinstance(event.payload, AnomalyDetected)
    ]


async def publish(run: Driver, *numbered: tuple[int, str, str]) -> None:
    await run.publish("signals", [line(number, key, number, level=level) for number, key, level in numbered])
    await run.run_until_idle()


async def ask_for(run: Driver, decision: Decision) -> None:
    await run.mesh.publish(decision.requests)
    await run.run_until_idle()


async def ends(run: Driver) -> list[tuple[str, int, int]]:
    ended = [event.payload for event in await run.events("dead-letters")]
    return [(each.stage, each.replayed, each.again) for each in ended if isinstance(each, ReplayEnded)]


def summary(letters: Iterable[DeadLetter]) -> list[tuple[str, str, str]]:
    return [(each.payload.stage, each.payload.key, each.payload.error) for each in letters]


async def parked(mesh: Mesh, *, on_poison: str = "park-key") -> None:
    """Line 2 of a was too hard, so line 4 waits; b goes on."""
    old = driver(mesh, released(mended=False, on_poison=on_poison))
    await publish(old, (1, "a", "info"), (2, "a", "error"), (3, "b", "info"), (4, "a", "info"))


async def test_a_replay_processes_the_letters_of_a_key_in_order_and_releases_it(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        run = driver(mesh, released(mended=True))
        letters = await known(mesh)
        assert summary(of(letters, "number")) == [
            ("number", "a", "PoisonedEventError"),
            ("number", "a", "KeyParked"),
        ]

        await ask_for(run, replay(letters, run.topology, of(letters, "number"), now=NOW, by="me"))
        await publish(run, (5, "a", "info"))

        assert await lines(run) == [("a", "1", 1), ("b", "3", 1), ("a", "2", 2), ("a", "4", 3), ("a", "5", 4)]
        assert await ends(run) == [("number", 2, 0)]
        left = await known(mesh)
        assert of(left, "number") == []
        assert len(of(left, "ask")) == 3, "another stage's letters are its own"
        ids = [event.id for event in await run.events("numbered")]
        assert ids[2] == derived_id(derived_id("line", 2), "number", 0), "outputs are what they would have been"


async def test_events_that_come_before_and_after_the_request_wait_their_turn(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        run = driver(mesh, released(mended=True))
        letters = await known(mesh)
        # Nobody has processed line 5 when the request is made; line 6 comes right behind it.
        await run.publish("signals", [line(5, "a", 5)])
        await run.mesh.publish(replay(letters, run.topology, letters.letters, now=NOW, by="me").requests)
        await run.publish("signals", [line(6, "a", 6), line(7, "b", 7)])
        await run.run_until_idle()

        for stream in ("numbered", "answered"):
            of_a = [(number, value) for key, number, value in await lines(run, stream) if key == "a"]
            assert of_a == [("1", 1), ("2", 2), ("4", 3), ("5", 4), ("6", 5)]
        assert (await known(mesh)).letters == []


async def test_what_is_still_too_hard_parks_its_key_again_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        same = driver(mesh, released(mended=False))
        letters = await known(mesh)
        await ask_for(same, replay(letters, same.topology, letters.letters, now=NOW, by="me"))
        await publish(same, (5, "a", "info"))

        left = await known(mesh)
        assert summary(of(left, "number")) == [
            ("number", "a", "PoisonedEventError"),
            *[("number", "a", "KeyParked")] * 2,
        ]
        assert [each.id for each in of(left, "number")][:2] == [each.id for each in of(letters, "number")]
        assert sorted(await ends(same)) == [("ask", 2, 2), ("number", 2, 2)]

        mended = driver(mesh, released(mended=True))
        await ask_for(mended, replay(left, mended.topology, left.letters, now=NOW, by="me"))
        for stream in ("numbered", "answered"):
            of_a = [(number, value) for key, number, value in await lines(mended, stream) if key == "a"]
            assert of_a == [("1", 1), ("2", 2), ("4", 3), ("5", 4)]


async def test_the_poison_is_dropped_and_the_rest_of_its_key_replayed(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        run = driver(mesh, released(mended=False))
        letters = await known(mesh)
        poison, waiting = of(letters, "number")
        with pytest.raises(UsageError, match="replay the whole key"):
            replay(letters, run.topology, [waiting], now=NOW, by="me")

        await ask_for(run, drop(letters, run.topology, [poison], now=NOW, by="me"))
        left = await known(mesh)
        assert of(left, "number") == [waiting]
        await ask_for(run, replay(left, run.topology, [waiting], now=NOW, by="me"))
        await publish(run, (5, "a", "info"))

        assert [each[1:] for each in await lines(run) if each[0] == "a"] == [("1", 1), ("4", 2), ("5", 3)]
        assert of(await known(mesh), "number") == []


async def test_a_dropped_key_goes_on_and_what_nobody_saw_is_not_dropped(
    kind: str, request: pytest.FixtureRequest
) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        run = driver(mesh, released(mended=False))
        letters = await known(mesh)
        await publish(run, (5, "a", "info"))  # a letter that whoever decides has not seen
        await ask_for(run, drop(letters, run.topology, letters.letters, now=NOW, by="me"))
        await publish(run, (6, "a", "info"))

        for stream in ("numbered", "answered"):
            of_a = [(number, value) for key, number, value in await lines(run, stream) if key == "a"]
            assert of_a == [("1", 1), ("5", 2), ("6", 3)]
        assert (await known(mesh)).letters == []


async def test_single_letters_of_a_stage_that_skips_are_replayed(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        old = driver(mesh, released(mended=False, on_poison="skip"))
        await publish(old, (1, "a", "error"), (2, "a", "error"), (3, "a", "info"), (4, "a", "error"))
        run = driver(mesh, released(mended=True, on_poison="skip"))
        letters = await known(mesh)
        first, _, third = of(letters, "number")
        await ask_for(run, replay(letters, run.topology, [first, third], now=NOW, by="me"))

        assert [each[1] for each in await lines(run)] == ["3", "1", "4"]
        [left] = of(await known(mesh), "number")
        assert "line 2" in left.payload.event


async def test_of_two_who_decide_at_once_the_second_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        run = driver(mesh, released(mended=True))
        letters = await known(mesh)
        mine = of(letters, "number")
        first = replay(letters, run.topology, mine, now=NOW, by="me")
        second = drop(letters, run.topology, mine, now=NOW, by="you")
        assert await mesh.publish([*first.requests, *first.requests, *second.requests]) == 2
        await run.run_until_idle()

        assert [each[1] for each in await lines(run)] == ["1", "3", "2", "4"]
        notes = (await known(mesh)).notes
        [refused] = notes[second.ids[0]]
        assert isinstance(refused, LettersTaken)
        assert "are being processed again" in refused.refused

        stale = drop(letters, run.topology, mine[:1], now=NOW, by="late")
        await ask_for(run, stale)
        [refused] = (await known(mesh)).notes[stale.ids[0]]
        assert isinstance(refused, LettersTaken)
        assert "there have been 1 by now" in refused.refused


async def test_a_key_whose_letters_have_expired_is_released(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        run = driver(mesh, released(mended=True))
        letters = await known(mesh)
        await mesh.trim(("dead-letters", 0), letters.end._replace(seq=letters.end.seq + 1))
        gone = await known(mesh)
        assert gone.letters == []
        await ask_for(run, release(letters, run.topology, run.topology.stage("number"), "a", now=NOW, by="me"))
        await publish(run, (5, "a", "info"))
        assert [each[1:] for each in await lines(run) if each[0] == "a"] == [("1", 1), ("5", 2)]


async def test_letters_of_what_is_no_stage_can_be_dropped_only(kind: str, request: pytest.FixtureRequest) -> None:
    async with opened(kind, request) as mesh:
        await parked(mesh)
        letters = await known(mesh)
        nobody = driver(mesh, released(mended=True)).topology
        nobody = replace(nobody, stages=nobody.stages[:1])
        with pytest.raises(UsageError, match="'ask', which is no stage"):
            replay(letters, nobody, of(letters, "ask"), now=NOW, by="me")
        await mesh.publish(drop(letters, nobody, of(letters, "ask"), now=NOW, by="me").requests)
        assert of(await known(mesh), "ask") == []
        assert len(of(await known(mesh), "number")) == 2
