"""Whatever the input, the batches and the crashes: stages of one task say what they say with stored streams between them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

import orjson
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pipeline.engine.dead_letters import DeadLetters
from pipeline.engine.dead_letters import replay as replayed
from pipeline.engine.drive import Driver
from pipeline.engine.inputs import inputs_of
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh
from pipeline.engine.record import BEGINNING, Offset, Place, Record
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.rows import rows_of_stage
from tests.contracts.chained import Policy, chain
from tests.contracts.counting import line, sample
from tests.contracts.crashing import CrashError, CrashingMesh, When
from topology.event import Event, Payload
from topology.graph import Topology
from topology.payloads import EventDeadLettered

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STORED = ("lines", "numbered", "late")
METRICS = ("m", "m", "mm", "mmm", "poison-split", "poison:before", "poison:after")


@dataclass(frozen=True)
class Story:
    """What is published, and how it is worked on.

    Attributes:
        replays: stages whose letters are replayed after the next release, one after the other.
        afterwards: what is published after that.
    """

    signals: tuple[Event[Payload], ...]
    on_poison: Policy
    lateness_s: int
    published_at_once: int
    read_at_once: int
    crashes: Mapping[int, When]
    replays: tuple[str, ...] = ()
    afterwards: tuple[Event[Payload], ...] = ()


@st.composite
def stories(draw: st.DrawFn, *, letters: bool = False) -> Story:
    metrics = METRICS if letters or draw(st.booleans()) else ("m", "mm", "mmm")

    def signals(first: int) -> list[Event[Payload]]:
        return [
            cast("Event[Payload]", sample(number, draw(st.sampled_from("abcd")), draw(st.integers(0, 60)), metric))
            if (metric := draw(st.sampled_from((*metrics, "")))) and metric
            else cast("Event[Payload]", line(number, draw(st.sampled_from("abcd")), draw(st.integers(0, 60))))
            for number in range(first, first + draw(st.integers(1, 40)))
        ]

    whens = cast("st.SearchStrategy[When]", st.sampled_from(("before", "after")))
    return Story(
        tuple(signals(0)),
        draw(st.sampled_from(("park-key", "skip"))),
        draw(st.sampled_from((0, 5))),
        draw(st.integers(1, 40)),
        draw(st.sampled_from((1, 2, 3, 7, 500))),
        draw(st.dictionaries(st.integers(0, 60), whens, max_size=12)),
        tuple(draw(st.permutations(("split", "sum", "forward")))) if letters else (),
        tuple(signals(1000)) if letters else (),
    )


def undisturbed(story: Story) -> Story:
    return replace(story, published_at_once=len(story.signals), read_at_once=500, crashes={})


async def told(mesh: Mesh, story: Story, *, stored: bool) -> dict[object, object]:
    """What the stored streams say in each partition, to the byte, and what tables hold in the end."""

    def topology(*, mended: bool) -> Topology:
        return chain(stored=stored, on_poison=story.on_poison, lateness_s=story.lateness_s, mended=mended)

    crashing = CrashingMesh(mesh, story.crashes)
    run = Driver(topology(mended=False), mesh=cast("Mesh", crashing))
    await publish(run, story.signals, story)
    if story.replays:
        run = Driver(topology(mended=True), mesh=cast("Mesh", crashing))
        for stage in story.replays:
            await replay(run, stage, story)
        await publish(run, story.afterwards, story)
        event(f"crashed: {crashing.crashed > 0}")
    return {**await said(mesh), **await remembered(mesh, run.topology)}


async def publish(run: Driver, signals: tuple[Event[Payload], ...], story: Story) -> None:
    for first in range(0, len(signals), story.published_at_once):
        await run.publish("signals", signals[first : first + story.published_at_once])
        await until_idle(run, story)


async def replay(run: Driver, stage: str, story: Story) -> None:
    known = DeadLetters()
    await known.follow(run.mesh)
    open_ones = [each for each in known.letters if each.payload.stage == stage and not each.payload.window]
    event(f"letters of {stage}: {bool(open_ones)}")
    await run.mesh.publish(replayed(known, run.topology, open_ones, now=NOW, by="me").requests)
    await until_idle(run, story)


async def until_idle(run: Driver, story: Story) -> None:
    while True:
        try:
            if not await run.step(count=story.read_at_once):
                return
        except CrashError:
            run.crash()


async def said(mesh: Mesh) -> dict[object, object]:
    found: dict[object, list[object]] = defaultdict(list)
    for name in STORED:
        for record in await records(mesh, name, 2):
            # What came late is told by several stages and partitions on one stream: only the order of a key is given.
            late = record.event.payload if name == "late" else None
            found[name, record.partition, getattr(late, "key", "")].append(record.value)
    for record in await records(mesh, "dead-letters", 1):
        payload = record.event.payload
        if isinstance(payload, EventDeadLettered):
            about = payload.stage, payload.partition, payload.stream
            what = orjson.loads(payload.event)
            found["letters", *about].append((payload.key, payload.error, payload.reason, payload.window, what))
    return dict(found)


async def records(mesh: Mesh, stream: str, partitions: int) -> list[Record]:
    places: dict[Place, Offset] = {(stream, partition): BEGINNING for partition in range(partitions)}
    return await mesh.read(places, count=100_000, wait_s=0)


async def remembered(mesh: Mesh, topology: Topology) -> dict[object, object]:
    found: dict[object, object] = {}
    for head in topology.tasks:
        for partition in range(head.partitions):
            lease = await mesh.claim(head.id, partition, "driver", 1000)
            assert lease is not None
            state = (await mesh.restore(lease, inputs_of(head, partition))).state
            for stage in head.chain:
                rows = rows_of_stage(stage, state)
                kept = {row: value for row, value in rows.items() if not row.startswith("~") or "parked" in row}
                found["rows", stage.id, partition] = kept
    return found


def memory() -> MemoryMesh:
    return MemoryMesh(lambda: time.time_ns() // 1_000_000)


@given(story=stories())
@settings(max_examples=200)
async def test_a_task_of_several_stages_says_what_they_say_alone_through_any_crashes(story: Story) -> None:
    apart = await told(memory(), undisturbed(story), stored=True)
    assert await told(memory(), story, stored=False) == apart


@given(story=stories(letters=True))
@settings(max_examples=150)
async def test_dead_letters_of_any_stage_of_a_task_are_replayed_as_those_of_one_alone(story: Story) -> None:
    apart = await told(memory(), undisturbed(story), stored=True)
    assert await told(memory(), story, stored=False) == apart


@pytest.mark.servers
@given(story=stories(letters=True))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_redis_makes_no_difference_to_a_task_of_several_stages(redis_url: str, story: Story) -> None:
    apart = await told(memory(), undisturbed(story), stored=True)
    mesh = RedisMesh.connect(redis_url, namespace=f"t{uuid4().hex[:8]}")
    try:
        assert await told(mesh, story, stored=False) == apart
    finally:
        await mesh.close()
