"""What a stage's inputs let in: conditions before the agent sees anything, and shedding that is on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.drive import Driver
from pipeline.engine.mesh import Lease, Mesh
from pipeline.engine.owned import Owned
from pipeline.engine.pressure import LOOK_S, Pressure
from pipeline.engine.record import BEGINNING, Offset, Record, Restored
from pipeline.engine.rows import Remembered
from pipeline.engine.task import PartitionTask
from pipeline.engine.verdict import Memory
from tests.contracts.counting import line, sample
from tests.contracts.meshes import MESHES, opened
from tests.pipeline.engine.stages import AsksTwice, Bench, topology_of
from tests.pipeline.engine.working import events, publish, running, worker
from tests.polling import eventually
from topology import Agent, Event, World
from topology.event import Payload
from topology.payloads import AnomalyDetected, EventsShed, LogWritten, MetricSampled

SHED = "events.shed"


class Says(Agent[LogWritten | MetricSampled, AnomalyDetected]):
    """Says what it was given."""

    def process(self, event: Event[LogWritten | MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        payload = event.payload
        said = payload.message if isinstance(payload, LogWritten) else payload.metric
        yield AnomalyDetected(service=payload.service, system=payload.service, kind="said", subject=said)


def subjects(bench: Bench) -> list[str]:
    return [finding.subject for finding in bench.said()]


def test_what_a_condition_does_not_hold_for_is_passed_over_and_the_offset_moves_on() -> None:
    bench = Bench(Says, consumes={"stream": "signals", "types": ["LogWritten"], "where": "payload.level >= 'error'"})
    bench.offer(line(1, "a", 1, level="error"), line(2, "a", 2), sample(3, "a", 3), line(4, "b", 4, level="critical"))
    bench.offer(line(5, "a", 5))
    commit = bench.work()

    assert subjects(bench) == ["line 1", "line 4"]
    assert commit.offsets == {("signals", 0): Offset(1_004, 0)}
    assert commit.records == {("signals", 0): 5}


def test_types_that_are_not_taken_cost_nothing_and_everything_else_of_the_stream_comes_in() -> None:
    bench = Bench(Says, consumes={"stream": "signals", "types": ["LogWritten"]})
    assert bench.task.entrance is None, "the event type alone decides"
    bench.offer(line(1, "a", 1), sample(2, "a", 2))
    bench.work()
    assert subjects(bench) == ["line 1"]

    assert Bench(Says).task.entrance is None


def test_what_cannot_be_decoded_is_a_dead_letter_whatever_the_condition() -> None:
    bench = Bench(Says, consumes={"stream": "signals", "types": ["LogWritten"], "where": "payload.level >= 'error'"})
    bench.offered.append(Record("signals", 0, Offset(1_000, 0), "a", "log.written", b"{"))
    bench.task.offer(bench.offered)
    bench.work()

    assert [letter.error for letter in bench.said("event.dead-lettered")] == ["InvalidEventError"]


def test_records_are_passed_over_for_one_stage_only() -> None:
    narrow = Bench(Says, consumes={"stream": "signals", "types": ["LogWritten"], "where": "payload.level >= 'error'"})
    wide = Bench(Says)
    narrow.offer(line(1, "a", 1))
    wide.task.offer(narrow.offered)
    narrow.work()
    wide.work()

    assert (subjects(narrow), subjects(wide)) == ([], ["line 1"])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["info", "error", "critical"])), max_size=30))
async def test_a_condition_gives_what_an_agent_would_that_looks_itself(lines: list[tuple[str, Any]]) -> None:
    where = "payload.level >= 'error' and not payload.service == 'b'"
    graph = topology_of(Says, consumes={"stream": "signals", "types": ["LogWritten"], "where": where})
    driver = Driver(graph)
    await driver.publish("signals", [line(n, service, n, level=level) for n, (service, level) in enumerate(lines)])
    await driver.run_until_idle(count=3)

    expected = [f"line {n}" for n, (service, level) in enumerate(lines) if level != "info" and service != "b"]
    assert [event.payload.subject for event in await driver.events("findings")] == expected  # type: ignore[attr-defined]
    assert [lag.waiting for lag in await driver.mesh.lags([("stage", 0, ("signals", 0))])] == [0]


def limited(lag_max: int, **more: str) -> dict[str, object]:
    return {"stream": "signals", "lag_max": lag_max, "when_full": "shed", **more}


def offsets_of(reports: Sequence[EventsShed]) -> set[Offset]:
    """Those of a bench, which are one millisecond apart."""
    shed = set()
    for first, last in (run.split("..") for report in reports for run in report.offsets):
        shed |= {Offset(ms, 0) for ms in range(Offset.parse(first).ms, Offset.parse(last).ms + 1)}
    return shed


def test_the_oldest_are_shed_until_no_more_wait_than_may() -> None:
    bench = Bench(Says, consumes=limited(4))
    assert bench.task.entrance is not None
    bench.task.entrance.measured(("signals", 0), 10)
    bench.offer(*(line(n, "a", n) for n in range(10)))
    commit = bench.work()

    assert subjects(bench) == [f"line {n}" for n in range(6, 10)]
    [report] = bench.said(SHED)
    assert report == EventsShed(
        stage="stage",
        stream="signals",
        partition=0,
        lag_max=4,
        counts={"log.written": 6},
        offsets=("1000-0..1005-0",),
    )
    assert commit.records == {("signals", 0): 10}


def test_what_is_done_and_not_committed_does_not_wait() -> None:
    bench = Bench(Says, consumes=limited(4))
    assert bench.task.entrance is not None
    bench.offer(*(line(n, "a", n) for n in range(6)))
    bench.task.step()
    bench.task.entrance.measured(("signals", 0), 10)  # of which six are those, and four are to come
    bench.offer(*(line(n, "a", n) for n in range(6, 10)))
    bench.work()
    assert len(subjects(bench)) == 10
    assert bench.said(SHED) == []


def test_what_had_begun_before_a_restart_is_not_shed_after_it() -> None:
    bench = Bench(AsksTwice, on_poison="skip", consumes=limited(1))
    bench.offer(line(1, "a", 1), line(2, "b", 2), line(3, "c", 3, level="error"), line(4, "d", 4))
    bench.task.step()
    first, second, third, _ = bench.task.take_questions()
    for question in (second, third):
        bench.task.answer(question, {"status": "succeeded", "detail": ""})
    del bench.memory.waiting[("signals", 0), Offset(1_003, 0)]  # nobody had come to it

    offered, bench.offered = bench.offered, []
    bench.restore()
    assert bench.task.entrance is not None
    bench.task.entrance.measured(("signals", 0), 100)
    bench.offered = offered
    bench.task.offer(offered)
    bench.work(lambda asked: {"status": "succeeded", "detail": asked.idempotency_key})
    bench.task.answer(first, {"status": "succeeded", "detail": ""})
    bench.work(lambda asked: {"status": "succeeded", "detail": asked.idempotency_key})

    assert [finding.service for finding in bench.said()] == ["b", "a"]
    assert [letter.reason for letter in bench.said("event.dead-lettered")] == ["after all that"]
    assert offsets_of(bench.said(SHED)) == {Offset(1_003, 0)}
    assert bench.memory.answers == {}


def test_what_nobody_wants_is_neither_shed_nor_counted_among_what_waits_once_it_is_seen() -> None:
    bench = Bench(Says, consumes={"types": ["LogWritten"], **limited(4)})
    assert bench.task.entrance is not None
    bench.task.entrance.measured(("signals", 0), 10)
    bench.offer(*(sample(n, "a", n) for n in range(5)), *(line(n, "a", n) for n in range(5, 10)))
    bench.work()

    assert subjects(bench) == [f"line {n}" for n in range(6, 10)]
    assert bench.said(SHED)[0].counts == {"log.written": 1}


def test_nothing_is_shed_while_no_more_wait_than_may_or_nobody_knows() -> None:
    bench = Bench(Says, consumes=limited(4))
    bench.offer(*(line(n, "a", n) for n in range(10)))
    assert bench.task.entrance is not None
    assert not bench.task.entrance.is_measured
    bench.work()
    bench.task.entrance.measured(("signals", 0), 4)
    bench.offer(*(line(n, "a", n) for n in range(10, 14)))
    bench.work()

    assert len(bench.said()) == 14
    assert bench.said(SHED) == []


def test_what_matters_less_goes_first_and_what_matters_most_last() -> None:
    classes = {"shed_first": "payload.level < 'info'", "shed_last": "payload.level >= 'error'"}
    levels = ["error", "debug", "info", "debug", "info", "error", "debug", "info"]
    kept = {}
    for lag in (4, 6, 8, 10, 18, 22):
        bench = Bench(Says, consumes=limited(4, **classes))
        assert bench.task.entrance is not None
        bench.task.entrance.measured(("signals", 0), lag)
        bench.offer(*(line(n, "a", n, level=level) for n, level in enumerate(levels)))
        bench.work()
        said = {subject.removeprefix("line ") for subject in subjects(bench)}
        kept[lag] = [level for n, level in enumerate(levels) if str(n) in said]
        assert len(kept[lag]) + sum(sum(report.counts.values()) for report in bench.said(SHED)) == len(levels)

    assert kept[4] == levels
    assert kept[6] == ["error", "info", "info", "error", "debug", "info"], "two of the least, the oldest first"
    assert kept[8] == ["error", "info", "info", "error", "info"]
    assert kept[10] == ["error", "info", "error", "info"], "above 8 also ordinary ones"
    assert kept[18] == ["error"], "above 16 also what matters most, the oldest first"
    assert kept[22] == []


def test_what_was_shed_is_told_with_the_commit_that_passes_it_and_never_before() -> None:
    bench = Bench(AsksTwice, consumes=limited(2))
    assert bench.task.entrance is not None
    bench.offer(line(0, "slow", 0))
    bench.task.step()  # it waits for an answer from now on, and everything of its key behind it
    [question] = bench.task.take_questions()
    bench.task.entrance.measured(("signals", 0), 9)
    bench.offer(line(1, "a", 1), line(2, "slow", 2), line(3, "a", 3), line(4, "slow", 4), line(5, "b", 5))
    bench.task.step()
    bench.commit()

    assert offsets_of(bench.said(SHED)) == {Offset(1_001, 0), Offset(1_003, 0), Offset(1_005, 0)}
    before = bench.task
    bench.restore()
    assert bench.task is not before
    bench.task.answer(question, {"status": "succeeded", "detail": ""})
    bench.work(lambda question: {"status": "succeeded", "detail": question.idempotency_key})
    assert len(bench.said()) == 3, "what waited behind the slow one was never told as shed, and is not lost"


@given(
    levels=st.lists(st.sampled_from(["debug", "info", "error"]), min_size=1, max_size=60),
    lag=st.integers(0, 200),
    batch=st.integers(1, 9),
    crash_every=st.integers(2, 6),
)
def test_whatever_is_shed_is_on_record_once_through_crashes(
    levels: list[str], lag: int, batch: int, crash_every: int
) -> None:
    bench = Bench(Says, consumes=limited(10, shed_first="payload.level < 'info'"))
    for n, level in enumerate(levels):
        if n % batch == 0 and bench.task.entrance is not None:
            bench.task.entrance.measured(("signals", 0), max(lag - n, 0) + bench.task.waiting)
        bench.offer(line(n, "a", n, level=level))
        if n % batch == batch - 1:
            bench.task.step(batch // 2)
            if n % crash_every:
                bench.commit()
            else:
                bench.restore()
    bench.work()

    processed = {Offset(1_000 + int(subject.removeprefix("line ")), 0) for subject in subjects(bench)}
    shed = offsets_of(bench.said(SHED))
    assert not processed & shed
    assert processed | shed == {record.offset for record in bench.offered}
    assert sum(sum(report.counts.values()) for report in bench.said(SHED)) == len(shed)
    assert len({output.id for output in bench.outputs}) == len(bench.outputs)


@pytest.mark.parametrize("kind", MESHES)
async def test_a_worker_that_is_far_behind_sheds_what_its_input_says(kind: str, request: pytest.FixtureRequest) -> None:
    graph = topology_of(Says, consumes=limited(300, shed_last="payload.level >= 'error'"))
    told: list[Event[Payload]] = [line(n, "a", n, level="error" if n % 10 == 0 else "info") for n in range(1_000)]
    async with opened(kind, request) as mesh:
        await publish(mesh, graph, told)
        async with running(worker(mesh, graph)):
            await eventually(lambda: _caught_up(mesh), saying="everything is done or shed")
        said = {event.payload.subject for event in await events(mesh, graph, "findings")}
        reports = [event.payload for event in await events(mesh, graph, "shed")]

    shed = sum(report.counts["log.written"] for report in reports)
    assert len(said) + shed == 1_000
    assert 300 <= len(said) <= 310, "as many as may wait, and what was done when it was looked again between two reads"
    assert {f"line {n}" for n in range(400, 1_000, 10)} <= said, "what matters most goes only above twice as much"
    assert {f"line {n}" for n in range(950, 1_000)} <= said, "the newest are kept"


async def _caught_up(mesh: Mesh) -> bool:
    return [lag.waiting for lag in await mesh.lags([("stage", 0, ("signals", 0))])] == [0]


async def test_it_is_told_which_stage_sheds(request: pytest.FixtureRequest) -> None:
    graph = topology_of(Says, consumes=limited(3))
    [stage] = graph.stages
    task = PartitionTask(stage, 0, Remembered(stage, Restored({("signals", 0): BEGINNING})))
    owned = Owned(stage, Lease("stage", 0, "1"), Memory(), task)
    async with opened("memory", request) as mesh:
        await publish(mesh, graph, [line(n, "a", n) for n in range(5)])
        pressure = Pressure(mesh, graph, graph.stages)
        await pressure.look([owned], 1.0)
        assert pressure.troubles == ["stage/0 sheds: 5 events of 'signals' wait for it, and 3 may"]
        assert owned.task.entrance is not None
        assert owned.task.entrance.is_measured

        lease = await mesh.claim("stage", 0, "one", 60)
        assert lease is not None
        owned.task.offer(await mesh.read({("signals", 0): BEGINNING}, count=100, wait_s=0))
        owned.task.step()
        await mesh.commit([(lease, owned.task.take_commit())])
        await pressure.look([owned], 1.0 + LOOK_S)
        assert pressure.troubles == []
