"""Early results on the streams: events of their own, derived again by a replay, and judged on their own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from pipeline.engine.verdict import MustRestoreError
from tables.aggregates import Count, Sum
from tables.table import Table
from tables.windows import Tumbling
from tests.contracts.counting import sample
from tests.pipeline.engine.stages import Bench, told
from topology import Agent, Event, World
from topology.moments import from_us
from topology.payloads import AnomalyDetected, MetricSampled
from topology.state import ClosedWindow

S = 1_000_000


class SoFar(Agent[MetricSampled, AnomalyDetected]):
    """Says its counts with every second entry."""

    entries = Table("entries", key="service", window=Tumbling(timedelta(seconds=60)), value=Count, early=2)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        self.entries.add(event)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        if closed.key == "bad" and closed.revision == 1:
            msg = "division by zero"
            raise ZeroDivisionError(msg)
        yield told(closed.key, f"{closed.revision} {'final' if closed.final else 'early'}", closed.value)


class WithTime(SoFar):
    """Says its counts whenever ten seconds have passed."""

    entries = Table(
        "entries", key="service", window=Tumbling(timedelta(seconds=60)), value=Count, early=timedelta(seconds=10)
    )


class OneKey(SoFar):
    """Forgets a key for the next one."""

    entries = Table("entries", key="service", window=Tumbling(timedelta(seconds=60)), value=Count, early=1, keys_max=1)


def findings(bench: Bench) -> list[Event[Any]]:
    return [event for event in bench.outputs if event.event_type == AnomalyDetected.event_type]


def run(agent: type[SoFar], *at_s: float, service: str = "a", **settings: object) -> Bench:
    bench = Bench(agent, **settings)
    bench.offer(*(sample(n, service, at) for n, at in enumerate(at_s)))
    bench.work()
    return bench


def test_each_revision_is_an_event_of_its_own_at_the_time_of_its_trigger_and_the_final_one_at_the_end() -> None:
    bench = run(SoFar, 1, 2, 3, 4, 5, 61)
    said = [(e.payload.subject, e.payload.value, e.at_us // S) for e in findings(bench)]
    assert said == [("0 early", 2, 2), ("1 early", 4, 4), ("2 final", 5, 60)]
    assert len({event.id for event in findings(bench)}) == 3
    assert [event.metadata["window"]["revision"] for event in findings(bench)] == [0, 1, 2]


def test_results_by_time_bear_the_time_of_what_made_them_due_not_the_end_of_the_window() -> None:
    bench = run(WithTime, 1, 11, 12, 35, lateness="5s")
    assert [(e.payload.subject, e.payload.value, e.at_us // S) for e in findings(bench)] == [
        ("0 early", 2, 11),
        ("1 early", 4, 35),
    ]


def test_whoever_keeps_results_is_told_which_of_them_replaces_which() -> None:
    early, _, _ = findings(run(SoFar, 1, 2, 3, 4, 5, 61))
    start, end = (from_us(at).isoformat().replace("+00:00", "Z") for at in (0, 60 * S))
    about = {"table": "entries", "key": "a", "start": start, "end": end, "revision": 0, "final": False}
    assert early.metadata == {"window": about}
    [final] = findings(run(SoFar, 1, 61))
    assert final.metadata == {}, "nothing to replace"


def test_entries_make_a_result_due_at_once_also_when_they_come_out_of_order() -> None:
    bench = run(SoFar, 30, 3, 2, 1)
    assert [(e.payload.subject, e.payload.value, e.at_us // S) for e in findings(bench)] == [
        ("0 early", 2, 30),
        ("1 early", 4, 30),
    ], "and none is told to be older than the one it replaces"


@pytest.mark.parametrize("agent", [SoFar, WithTime])
def test_a_replay_and_a_restart_after_each_event_derive_the_same_events(agent: type[SoFar]) -> None:
    at_s = [1, 8, 3, 14, 14, 26, 25, 59, 61, 75, 121]
    at_once = run(agent, *at_s)
    bench = Bench(agent)
    for n, at in enumerate(at_s):
        bench.offer(sample(n, "a", at))
        bench.work()
        bench.restore()
    assert findings(bench) == findings(at_once)
    assert bench.restored.state == at_once.restored.state


@pytest.mark.parametrize("policy", ["skip", "park-key"])
def test_an_early_result_nobody_can_conclude_from_spoils_neither_the_next_nor_the_final_one(policy: str) -> None:
    bench = run(SoFar, 1, 2, 3, 4, 5, 6, 61, service="bad", on_poison=policy)
    assert [finding.subject for finding in bench.said()] == ["0 early", "2 early", "3 final"]
    [letter] = bench.said("event.dead-lettered")
    assert letter.window
    assert "early result 1 of the window of 'bad' in 'entries'" in letter.reason


def test_a_final_result_nobody_can_conclude_from_is_told_apart_from_early_ones() -> None:
    bench = run(SoFar, 1, 2, 61, service="bad")
    assert [finding.subject for finding in bench.said()] == ["0 early"]
    [letter] = bench.said("event.dead-lettered")
    assert letter.reason.startswith("the window of 'bad'")


def test_a_key_that_was_dropped_and_comes_again_repeats_no_id() -> None:
    bench = Bench(OneKey)
    bench.offer(sample(1, "a", 1), sample(2, "b", 2), sample(3, "a", 3))
    bench.work()
    assert [(finding.service, finding.subject) for finding in bench.said()] == [
        ("a", "0 early"),
        ("b", "0 early"),
        ("a", "0 early"),
    ]
    assert len({event.id for event in findings(bench)}) == 3


class Moody(Agent[MetricSampled, AnomalyDetected]):
    """Cannot conclude from what is below zero."""

    entries = Table("entries", key="service", window=Tumbling(timedelta(seconds=60)), value=Sum, early=1, keys_max=1)

    def process(self, event: Event[MetricSampled], world: World) -> Iterable[AnomalyDetected]:
        self.entries.add(event, amount=-1.0 if event.payload.metric == "minus" else 1.0)
        return ()

    def window_closed(self, closed: ClosedWindow) -> Iterable[AnomalyDetected]:
        if closed.value < 0:
            msg = "square root of less than nothing"
            raise ValueError(msg)
        yield told(closed.key, str(closed.revision), closed.value)


@pytest.mark.parametrize("commits_after", [1, 2, 3])
def test_a_result_is_not_judged_by_that_of_a_key_that_was_dropped(commits_after: int) -> None:
    bench = Bench(Moody)
    events = [sample(1, "a", 1, "minus"), sample(2, "b", 2), sample(3, "a", 3)]
    bench.offer(*events[:commits_after])
    bench.work()
    bench.offer(*events[commits_after:])
    bench.work()
    assert [(finding.service, finding.value) for finding in bench.said()] == [("b", 1.0), ("a", 1.0)]
    assert len(bench.said("event.dead-lettered")) == 1


def test_a_window_that_was_given_up_is_forgotten_with_the_commit_that_says_so() -> None:
    bench = Bench(SoFar, on_poison="skip")
    bench.offer(*(sample(n, "bad", n) for n in range(10)))
    while bench.restores < 1:
        try:
            bench.task.step(5)
        except MustRestoreError:
            bench.restore()
    bench.task.step(5)
    assert len(bench.memory.verdicts) == 1
    bench.commit()
    assert bench.task.waiting == 5
    assert bench.memory.verdicts == {}
