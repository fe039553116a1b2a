"""What a task does about agents that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agents.ports import ExecuteAction
from pipeline.engine.asking import failed
from pipeline.engine.verdict import HaltedError, MustRestoreError
from tables.keyed import Keyed
from tests.contracts.counting import line, sample
from tests.pipeline.engine.stages import (
    SIGNALS,
    AsksTwice,
    BadWindow,
    Bench,
    CarriesOn,
    Crowded,
    Impure,
    LateThenAsks,
    Picky,
    Unstorable,
    told,
)
from topology import Agent, Event, World
from topology.errors import RetryableError
from topology.ids import derived_id
from topology.payloads import ActionRequest, AnomalyDetected, LogWritten

LETTER = "event.dead-lettered"


def echo(question: ExecuteAction) -> dict[str, Any]:
    return {"status": "succeeded", "detail": question.idempotency_key}


def test_a_question_asked_twice_about_one_event_has_one_answer() -> None:
    bench = Bench(AsksTwice)
    bench.offer(line(1, "a", 1))
    commit = bench.work(echo)

    assert [finding.subject for finding in bench.said()] == ["one one two"]
    assert len(bench.said("answer.recorded")) == len(commit.answered) == 2
    assert bench.memory.answers == {}


def test_answers_to_an_event_that_is_given_up_are_given_up_too() -> None:
    bench = Bench(AsksTwice, on_poison="skip")
    bench.offer(line(1, "a", 1, level="error"))
    commit = bench.work(echo)

    assert [letter.reason for letter in bench.said(LETTER)] == ["after all that"]
    assert len(commit.answered) == 2
    assert bench.memory.answers == {}
    assert bench.memory.verdicts == {}


def test_an_entry_that_came_late_is_told_once_however_often_its_event_is_attempted() -> None:
    bench = Bench(LateThenAsks)
    bench.offer(line(1, "a", 5), line(2, "a", 25))
    bench.work(echo)
    bench.offer(line(3, "a", 6))
    bench.work(echo)

    assert len(bench.said()) == 3
    assert [entry.event for entry in bench.said("entry.came-late")] == [derived_id("line", 3)]


def test_poison_that_touched_nothing_needs_no_restore_for_each() -> None:
    bench = Bench(Picky, on_poison="skip")
    bench.offer(*(sample(n, "a", n, "poison" if n % 2 else "good") for n in range(100)))
    bench.work()

    assert [finding.value for finding in bench.said()] == list(range(1, 51))
    assert len(bench.said(LETTER)) == 50
    assert bench.restores == 1, "the first poison shows that care is needed"


def test_what_a_poisoned_event_did_to_the_tables_is_forgotten() -> None:
    bench = Bench(Picky, on_poison="skip")
    bench.offer(*(sample(n, "a", n, "half" if n % 3 == 0 else "good") for n in range(9)))
    bench.work()

    assert [finding.value for finding in bench.said()] == list(range(1, 7))
    assert len(bench.said(LETTER)) == 3
    assert bench.restored.state["count/a"].endswith(b" 6")


def test_who_writes_what_cannot_be_stored_is_found_among_all() -> None:
    bench = Bench(Unstorable, on_poison="skip")
    bench.offer(*(sample(n, f"s{n}", n, "unstorable" if n == 5 else "good") for n in range(10)))
    bench.work()

    [letter] = bench.said(LETTER)
    assert letter.key == "s5"
    assert len(bench.said()) == 9
    assert sorted(row for row in bench.restored.state if row.startswith("notes/")) == [
        f"notes/s{n}" for n in range(10) if n != 5
    ]


@pytest.mark.parametrize("policy", ["skip", "park-key"])
def test_a_window_that_cannot_be_concluded_spoils_no_event(policy: str) -> None:
    bench = Bench(BadWindow, on_poison=policy)
    bench.offer(sample(1, "bad", 1), sample(2, "good", 2), sample(3, "other", 12), sample(4, "other", 22))
    bench.work()

    [letter] = bench.said(LETTER)
    assert (letter.key, letter.error) == ("bad", "ZeroDivisionError")
    assert "the window of 'bad' in 'samples'" in letter.reason
    assert [(f.service, f.subject, f.value) for f in bench.said()] == [("good", "0", 1), ("other", "10000000", 1)]
    bench.restore()
    bench.offer(sample(5, "other", 32), sample(6, "bad", 33))
    bench.work()
    assert len(bench.said(LETTER)) == 1, "the window is closed for good, and no key is parked"


def test_a_stage_that_halts_commits_what_came_before() -> None:
    bench = Bench(Picky, on_poison="halt")
    bench.offer(sample(1, "a", 1), sample(2, "a", 2), sample(3, "a", 3, "half"), sample(4, "a", 4))
    with pytest.raises(HaltedError, match="too late"):
        bench.work()
    bench.commit()
    assert [finding.value for finding in bench.said()] == [1, 2]
    assert bench.restored.offsets[("signals", 0)] == bench.offered[1].offset


def test_a_stage_halts_at_a_window_before_the_event_that_closes_it() -> None:
    bench = Bench(BadWindow, on_poison="halt")
    bench.offer(sample(1, "bad", 1), sample(2, "good", 22))
    with pytest.raises(HaltedError, match="division by zero"):
        bench.work()
    bench.commit()
    assert bench.restored.offsets[("signals", 0)] == bench.offered[0].offset


def test_an_agent_that_waits_for_something_else_is_refused() -> None:
    bench = Bench(Impure)
    bench.offer(line(1, "a", 1))
    bench.work(echo)
    assert [letter.error for letter in bench.said(LETTER)] == ["ImpureAgentError"]


def test_an_agent_may_do_without_an_answer() -> None:
    bench = Bench(CarriesOn)

    def away(question: ExecuteAction) -> Any:
        return failed(question, RetryableError("away"), bench.stage.spec.retry)

    bench.offer(line(1, "a", 1), sample(2, "a", 2), line(3, "a", 3))
    bench.work(away)
    assert [finding.subject for finding in bench.said()] == ["without", "without"]
    assert bench.said(LETTER) == []


def test_one_slow_key_makes_a_task_hold_a_bounded_number_of_records() -> None:
    bench = Bench(CarriesOn)
    bench.offer(line(0, "slow", 0))
    bench.work()
    offered, commit = 1, bench.commit()
    while bench.task.room:
        bench.offer(*(sample(n, "quick", n) for n in range(offered, offered + 500)))
        offered += 500
        commit = bench.work()
    assert offered <= 10_501
    assert len(commit.state["~ahead/signals"] or b"") < 100, "however many are done behind the slow one"

    restored = bench.restore()
    assert restored.waiting == 1, "only the slow one is processed again"
    bench.work(echo)
    assert restored.room
    assert bench.restored.offsets[("signals", 0)] == bench.offered[-1].offset


def test_events_a_stage_does_not_want_are_no_dead_letters_of_its_parked_keys() -> None:
    bench = Bench(Picky, on_poison="park-key")
    bench.offer(sample(1, "a", 1, "poison"), line(2, "a", 2), sample(3, "a", 3))
    bench.work()

    assert [letter.error for letter in bench.said(LETTER)] == ["PoisonedEventError", "KeyParked"]


def test_what_is_done_behind_a_slow_one_is_known_after_a_restart_that_reads_a_part_of_it() -> None:
    bench = Bench(CarriesOn)
    bench.offer(line(0, "slow", 0), *(line(n, f"s{n}", n) for n in range(1, 4)))

    bench.task.step()
    slow, *others = bench.task.take_questions()
    for question in others:
        bench.task.answer(question, echo(question.question))  # type: ignore[arg-type]
    bench.task.step()
    bench.commit()
    assert len(bench.said()) == 3

    everything, bench.offered = bench.offered, bench.offered[:1]
    bench.restore()
    bench.task.answer(slow, echo(slow.question))  # type: ignore[arg-type]
    bench.work()
    bench.offered = everything
    restored = bench.restore()
    assert restored.waiting == 0, "the three are not processed again"
    assert len(bench.said()) == 4


def test_what_tables_dropped_is_counted_over_restarts_and_committed_for_all_to_see() -> None:
    bench = Bench(Crowded)
    bench.offer(*(sample(n, key, n) for n, key in enumerate("ab")))
    assert "~evicted" not in bench.work().state, "nothing was dropped"

    bench.offer(*(sample(2 + n, key, 2) for n, key in enumerate("cd")))
    assert bench.work().state["~evicted"] == b'{"few":{"keys_max":2},"notes":{"keys_max":2}}'

    bench.restore()
    bench.offer(sample(4, "e", 2))
    assert bench.work().state["~evicted"] == b'{"few":{"keys_max":3},"notes":{"keys_max":3}}'

    bench.offer(sample(5, "e", 30))
    assert bench.work().state["~evicted"] == b'{"few":{"keys_max":3,"retain":1},"notes":{"keys_max":3}}'


def test_who_was_guilty_is_forgotten_with_the_commit_that_says_so_however_much_still_waits() -> None:
    bench = Bench(Picky, on_poison="skip")
    bench.offer(*(sample(n, f"s{n}", n, "poison" if n == 3 else "m") for n in range(20)))
    while bench.restores < 1:
        try:
            bench.task.step(5)
        except MustRestoreError:
            bench.restore()
    bench.task.step(5)
    assert list(bench.memory.verdicts) == [(SIGNALS, bench.offered[3].offset)]
    bench.commit()
    assert bench.task.waiting == 15
    assert bench.memory.verdicts == {}, "or every event after it takes the long way, for as long as something waits"
    bench.work()
    assert len(bench.said()) == 19
    assert len(bench.said(LETTER)) == 1


class ChangesItsMind(Agent[LogWritten, AnomalyDetected]):
    """Asks about an event what depends on what other keys have said by then."""

    heard = Keyed("heard", value=int)

    async def process(self, event: Event[LogWritten], world: World) -> AsyncIterator[AnomalyDetected]:
        heard = self.heard.get("all") or 0
        if event.payload.level == "error":
            request = ActionRequest(executor="echo", operation="say", target=event.payload.service)
            await world.ask(ExecuteAction(request=request, idempotency_key=f"{heard} heard"))
        self.heard.put("all", heard + 1)
        yield told(event.payload.service)


def test_an_answer_that_was_not_needed_in_the_end_is_not_kept_for_ever() -> None:
    bench = Bench(ChangesItsMind)
    bench.offer(line(1, "a", 1, level="error"), line(2, "b", 2))
    bench.task.step()
    (first,) = bench.task.take_questions()
    bench.task.answer(first, echo(first.question))  # type: ignore[arg-type]
    commit = bench.work(echo)
    assert len(bench.said()) == 2
    assert len(commit.answered) == len(set(commit.answered)) == 2
    assert first.key in commit.answered
    assert len(bench.said("answer.recorded")) == 1, "what was used"
    assert bench.memory.answers == {}
