"""Whatever the input, the batches and the crashes: every mesh gives what an undisturbed run gives."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from agents.ports import ExecuteAction, ExecutionReport
from pipeline.engine.drive import Driver
from pipeline.engine.memory import MemoryMesh
from pipeline.engine.mesh import Mesh
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import AGENTS, Echo, line, sample
from tests.contracts.crashing import CrashError, CrashingMesh, When
from topology.codec import encode
from topology.errors import RetryableError
from topology.event import Event, Payload
from topology.graph import Topology
from topology.payloads import AnswerRecorded, EntryCameLate, EventDeadLettered
from topology.resolve import resolve
from topology.spec import StageSpec, StreamSpec, TopologySpec

Policy = Literal["park-key", "skip"]
STREAMS = (
    "counts",
    "early-counts",
    "answers-given",
    "counts-numbered",
    "answers-numbered",
    "late",
    "dead-letters",
    "answers",
)
UNANSWERABLE = "unanswerable"


def two_branches(on_poison: Policy) -> Topology:
    """Each stream has one writer per key, so the order within a key is a function of the input."""

    def stage(stage_id: str, agent: str, consumes: str, emits: str) -> StageSpec:
        return StageSpec.model_validate(
            {
                "id": stage_id,
                "agent": f"counting:{agent}",
                "consumes": consumes,
                "emits": emits,
                "on_poison": on_poison,
                "concurrency": 2,
                "retry": {"attempts": 1},
            }
        )

    findings = StreamSpec(carries=("AnomalyDetected",), partitions=2)
    spec = TopologySpec(
        name="two-branches",
        streams={
            "signals": StreamSpec(carries=("MetricSampled", "LogWritten"), partitions=2),
            **dict.fromkeys(
                ("counts", "early-counts", "answers-given", "counts-numbered", "answers-numbered"), findings
            ),
        },
        stages=(
            stage("count-windows", "CountWindows", "signals", "counts"),
            stage("count-early", "CountEarly", "signals", "early-counts"),
            stage("ask-world", "AskWorld", "signals", "answers-given"),
            stage("number-counts", "Forward", "counts", "counts-numbered"),
            stage("number-answers", "Forward", "answers-given", "answers-numbered"),
        ),
    )
    return resolve(spec, lambda name: AGENTS[name])


@dataclass(frozen=True)
class Story:
    """What is published, and how it is worked on."""

    signals: tuple[Event[Payload], ...]
    on_poison: Policy
    published_at_once: int
    read_at_once: int
    answers_at_once: int | None
    crashes: Mapping[int, When]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    signals: list[Event[Payload]] = []
    for number in range(draw(st.integers(1, 40))):
        service = draw(st.sampled_from("abcd"))
        at_s = draw(st.integers(0, 60))
        kind = draw(st.sampled_from(("sample", "sample", "poison", "info", "info", "warning", "unanswerable")))
        if kind == "sample":
            signals.append(sample(number, service, at_s))
        elif kind == "poison":
            signals.append(sample(number, service, at_s, "poison"))
        elif kind == UNANSWERABLE:
            asked = line(number, service, at_s)
            told = asked.payload.model_copy(update={"message": f"{UNANSWERABLE} {number}"})
            signals.append(Event(id=asked.id, timestamp=asked.timestamp, source="test", payload=told))
        else:
            signals.append(line(number, service, at_s, level=kind))
    whens = cast("st.SearchStrategy[When]", st.sampled_from(("before", "after")))
    return Story(
        tuple(signals),
        draw(st.sampled_from(("park-key", "skip"))),
        draw(st.integers(1, 40)),
        draw(st.sampled_from((1, 2, 3, 7, 500))),
        draw(st.sampled_from((None, 1, 2))),
        draw(st.dictionaries(st.integers(0, 60), whens, max_size=12)),
    )


class World(Echo):
    """Answers, except what nobody can answer."""

    async def __call__(self, question: ExecuteAction) -> ExecutionReport:
        if question.idempotency_key.startswith(UNANSWERABLE):
            msg = "nobody knows"
            raise RetryableError(msg)
        return await super().__call__(question)


async def told(mesh: Mesh, story: Story, crashes: Mapping[int, When]) -> dict[tuple[str, str, str], list[object]]:
    """What every stream says about every key, in order, and what the windows hold in the end."""
    crashing = CrashingMesh(mesh, crashes)
    world = World()
    topology = two_branches(story.on_poison)
    driver = Driver(topology, {ExecuteAction: world}, mesh=cast("Mesh", crashing))
    for first in range(0, len(story.signals), story.published_at_once):
        await driver.publish("signals", story.signals[first : first + story.published_at_once])
        await until_idle(driver, story)
    assert set(world.asked.values()) <= {1}, "an answer that was recorded is never asked for again"
    if crashes:
        event(f"{crashing.crashed} crashes")

    found: dict[tuple[str, str, str], list[object]] = defaultdict(list)
    for stream in STREAMS:
        for said in await driver.events(stream):
            found[stream, said.source, key_of(said.payload)].append(what(said))
    for stage, partition in product(("count-windows", "count-early"), range(2)):
        lease = await mesh.claim(stage, partition, "driver", 60)
        assert lease is not None
        restored = await mesh.restore(lease, [("signals", partition)])
        found["state", stage, str(partition)].append(restored.state)
        assert restored.answers == {}
    return found


async def until_idle(driver: Driver, story: Story) -> None:
    busy = True
    while busy:
        try:
            busy = await driver.step(count=story.read_at_once, answers_max=story.answers_at_once)
        except CrashError:
            driver.crash()


def key_of(payload: Payload) -> str:
    if isinstance(payload, AnswerRecorded):
        return str(payload.event)
    if isinstance(payload, EventDeadLettered | EntryCameLate):
        return payload.key
    return str(getattr(payload, "service", ""))


def what(said: Event[Payload]) -> object:
    letter = said.payload
    if isinstance(letter, EventDeadLettered):  # names an offset, which every mesh gives anew
        return letter.error, letter.reason, letter.event, letter.attempts
    return encode(said)


def comparable(found: Mapping[tuple[str, str, str], Sequence[object]]) -> dict[tuple[str, str, str], list[object]]:
    return {key: list(said) for key, said in found.items()}


def undisturbed(story: Story) -> Story:
    return replace(story, published_at_once=len(story.signals), read_at_once=500, answers_at_once=None, crashes={})


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


@given(story=stories())
@settings(max_examples=150)
async def test_crashes_and_batches_change_nothing_in_memory(story: Story) -> None:
    calm = await told(MemoryMesh(clock_ms), undisturbed(story), {})
    shaken = await told(MemoryMesh(clock_ms), story, story.crashes)
    assert comparable(shaken) == comparable(calm)


@pytest.mark.servers
@given(story=stories())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_redis_gives_what_memory_gives_through_any_crashes(redis_url: str, story: Story) -> None:
    calm = await told(MemoryMesh(clock_ms), undisturbed(story), {})
    mesh = RedisMesh.connect(redis_url, namespace=f"t{uuid4().hex[:8]}")
    try:
        shaken = await told(mesh, story, story.crashes)
    finally:
        await mesh.close()
    assert comparable(shaken) == comparable(calm)


@given(story=stories())
@settings(max_examples=60)
async def test_the_size_of_batches_changes_nothing(story: Story) -> None:
    one_by_one = replace(story, published_at_once=1, read_at_once=1)
    assert comparable(await told(MemoryMesh(clock_ms), one_by_one, {})) == comparable(
        await told(MemoryMesh(clock_ms), undisturbed(story), {})
    )
