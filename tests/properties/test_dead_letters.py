"""Parked, dropped, replayed, mended, whatever the batches and the crashes: order holds per key, and each event counts once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from agents.ports import ExecuteAction
from pipeline.engine.dead_letters import DeadLetter, DeadLetters, drop, replay
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import Echo, line
from tests.contracts.crashing import CrashError, CrashingMesh, When
from tests.contracts.mending import release
from topology.payloads import AnomalyDetected

Level = Literal["info", "error", "critical"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = "abc"


@dataclass(frozen=True)
class Lines:
    """What is published at once, by service."""

    said: tuple[tuple[str, Level], ...]


@dataclass(frozen=True)
class Decide:
    """Somebody decides about the open letters of some keys of a stage, without waiting for what comes of it."""

    what: Literal["replay", "drop", "drop the poison"]
    stage: str
    keys: frozenset[str]


@dataclass(frozen=True)
class Mend:
    """The next release is deployed; it can do errors."""


@dataclass(frozen=True)
class Work:
    """So many steps of everything."""

    steps: int


Act = Lines | Decide | Mend | Work


@dataclass(frozen=True)
class Story:
    """What happens, and how it is worked on."""

    acts: tuple[Act, ...]
    read_at_once: int
    answers_at_once: int | None
    crashes: Mapping[int, When]


def acts() -> st.SearchStrategy[Act]:
    levels = cast("st.SearchStrategy[Level]", st.sampled_from(("info", "info", "info", "error", "critical")))
    lines = st.lists(st.tuples(st.sampled_from(KEYS), levels), min_size=1, max_size=12)
    whats = cast(
        "st.SearchStrategy[Literal['replay', 'drop', 'drop the poison']]",
        st.sampled_from(("replay", "replay", "drop", "drop the poison")),
    )
    decide = st.builds(
        Decide, whats, st.sampled_from(("number", "ask")), st.frozensets(st.sampled_from(KEYS), min_size=1)
    )
    return st.one_of(
        lines.map(lambda said: Lines(tuple(said))), decide, decide, st.integers(1, 6).map(Work), st.builds(Mend)
    )


@st.composite
def stories(draw: st.DrawFn) -> Story:
    whens = cast("st.SearchStrategy[When]", st.sampled_from(("before", "after")))
    return Story(
        tuple(draw(st.lists(acts(), min_size=3, max_size=14))),
        draw(st.sampled_from((1, 2, 3, 7, 500))),
        draw(st.sampled_from((None, 1, 2))),
        draw(st.dictionaries(st.integers(0, 80), whens, max_size=12)),
    )


class Deployment:
    """One run of a story."""

    def __init__(self, mesh: Mesh, story: Story) -> None:
        self._story = story
        self._crashing = CrashingMesh(mesh, story.crashes)
        self._mended = False
        self._count = 0
        self.echo = Echo()
        self.published: dict[str, list[tuple[str, Level]]] = {key: [] for key in KEYS}
        self.dropped: dict[str, set[str]] = {"number": set(), "ask": set()}
        self.driver = self._deployed()

    def _deployed(self) -> Driver:
        mesh = cast("Mesh", self._crashing)
        return Driver(release(mended=self._mended), {ExecuteAction: self.echo}, mesh=mesh)

    async def run(self) -> None:
        for act in self._story.acts:
            match act:
                case Lines(said):
                    await self.publish(said)
                case Decide(what, stage, keys):
                    await self.decide(what, stage, keys)
                case Mend():
                    self._mended = True
                    self.driver = self._deployed()
                case Work(steps):
                    await self.work(steps)
        await self.work()

    async def publish(self, said: tuple[tuple[str, Level], ...]) -> None:
        events = []
        for key, level in said:
            self._count += 1
            self.published[key].append((f"line {self._count}", level))
            events.append(line(self._count, key, self._count, level=level))
        await self.driver.publish("signals", events)

    async def open(self) -> DeadLetters:
        letters = DeadLetters()
        await letters.follow(self.driver.mesh)
        return letters

    async def decide(self, what: str, stage: str, keys: frozenset[str]) -> None:
        """A decision may be refused, when another one came before it; then nothing is dropped."""
        known = await self.open()
        chosen = [each for each in known.letters if each.payload.stage == stage and each.payload.key in keys]
        if what == "drop the poison":
            chosen = [each for each in chosen if each.payload.error == "PoisonedEventError"]
        if not chosen:
            return
        decision = (replay if what == "replay" else drop)(known, self.driver.topology, chosen, now=NOW, by="me")
        await self.driver.mesh.publish(decision.requests)
        if what == "replay":
            return
        await self.work()  # to learn whether it was refused
        notes = (await self.open()).notes
        for letter in chosen:
            if all(not getattr(note, "refused", "") for each in decision.ids for note in notes[each]):
                self.dropped[stage].add(message_of(letter))
            else:
                event("refused")

    async def work(self, steps: int | None = None) -> None:
        busy = True
        while busy and steps != 0:
            steps = None if steps is None else steps - 1
            try:
                busy = await self.driver.step(count=self._story.read_at_once, answers_max=self._story.answers_at_once)
            except CrashError:
                self.driver.crash()


def message_of(letter: DeadLetter) -> str:
    from topology.codec import decode

    return str(getattr(decode(letter.payload.event).payload, "message", ""))


async def check(mesh: Mesh, story: Story) -> None:
    deployment = Deployment(mesh, story)
    await deployment.run()
    known = await deployment.open()
    for stage, stream in (("number", "numbered"), ("ask", "answered")):
        said: dict[str, list[tuple[str, float | None]]] = defaultdict(list)
        for each in await deployment.driver.events(stream):
            assert isinstance(each.payload, AnomalyDetected)
            said[each.payload.service].append((each.payload.subject, each.payload.value))
        for key in KEYS:
            published = [message for message, _ in deployment.published[key]]
            processed = [message for message, _ in said[key]]
            left = [message_of(each) for each in known.letters if each.owner[0] == stage and each.payload.key == key]
            dropped = deployment.dropped[stage] & set(published)
            assert [number for _, number in said[key]] == [*range(1, len(processed) + 1)], "each counts once"
            assert processed == [m for m in published if m in set(processed)], "in the order they were published"
            assert len({*processed, *left}) == len(processed) + len(left), "done or a letter, never both"
            assert {*processed, *left} | dropped == set(published), "nothing is lost"
            assert not dropped & {*processed, *left}
            assert left == [m for m in published if m in set(left)], "letters are in order too"
            if left:
                assert published.index(left[0]) > max((published.index(m) for m in processed), default=-1)
    if story.crashes:
        event("crashed")


@given(story=stories())
@settings(max_examples=300, deadline=None)
async def test_in_memory_through_any_crashes(story: Story) -> None:
    await check(MemoryMesh(lambda: time.time_ns() // 1_000_000), story)


@pytest.mark.servers
@given(story=stories())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_on_redis_through_any_crashes(redis_url: str, story: Story) -> None:
    mesh = RedisMesh.connect(redis_url, namespace=f"t{uuid4().hex[:8]}")
    try:
        await check(mesh, story)
    finally:
        await mesh.close()
