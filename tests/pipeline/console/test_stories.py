"""Events become stories, stories become lines, and the screens show them."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console

from pipeline.console.pulse import Pulse
from pipeline.console.screen import LiveScreen, PlainScreen, screen_for
from pipeline.console.story import Stories, Story
from pipeline.console.telling import facts
from tests.agents import stories as told
from tests.agents.world import at
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.payloads import ActionStarted, ExperienceRecorded, HeartbeatSeen, LogWritten, MetricSampled


def event(payload: Payload, seconds: float = 0.0) -> Event[Payload]:
    return Event(id=derived_id(repr(payload), str(seconds)), timestamp=at(seconds), source="test", payload=payload)


def repaired() -> list[Payload]:
    """A restart that did not help, a rollback that did, and what was learned."""
    first, second = told.plan(1), told.plan(2, solution="roll-back")
    done, helped = told.finished(first), told.finished(second)
    rejected, verified = told.outcome(first, "rejected"), told.outcome(second, "verified")
    lesson = ExperienceRecorded(
        experience=derived_id("lesson"), incident=told.INCIDENT, system="ledger", problem=verified.problem,
        solution=verified.solution, target="ledger", request=verified.request, succeeded=True, attempt=verified.attempt,
    )  # fmt: skip
    symptom = told.symptom("health.http_500")
    return [
        told.opened(symptom), first, done, rejected, second, helped, verified, lesson,
        told.resolved(symptom, seconds=20),
    ]  # fmt: skip


def story_of(payloads: list[Payload]) -> Story:
    stories = Stories()
    for seconds, payload in enumerate(payloads):
        stories.take(event(payload, seconds), at(seconds))
    [story] = stories
    return story


def test_a_story_knows_what_was_tried_what_cured_and_whether_it_is_closed() -> None:
    story = story_of(repaired())

    assert [step.plan.solution for step in story.repairs] == ["restart", "roll-back"]
    assert story.cure is story.repairs[1]
    assert story.is_closed
    assert not story_of(repaired()[:-1]).is_closed, "it is not quiet yet"
    assert not story_of([*repaired()[:7], repaired()[8]]).is_closed, "nothing was learned yet"


def test_what_is_heard_before_the_incident_itself_is_not_lost() -> None:
    opened, *rest = repaired()[:4]
    expected = facts(story_of([opened, *rest]))
    for place in range(len(rest) + 1):
        assert facts(story_of([*rest[:place], opened, *rest[place:]])) == expected


def test_a_fact_is_told_once_in_plain_lines() -> None:
    out = io.StringIO()
    screen, stories = PlainScreen(out), Stories()
    for seconds, payload in enumerate(repaired()):
        stories.take(event(payload, seconds), at(seconds))
        screen.show(list(stories), Pulse(), "")

    lines = out.getvalue().splitlines()
    assert len(lines) == len(set(lines))
    assert [line.split()[0] for line in lines[1:]] == [
        "seen", "trying", "rejected", "trying", "verified", "learned", "resolved",
    ]  # fmt: skip


def test_the_live_screen_keeps_the_open_story_in_sight_when_there_are_many() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=60)
    stories = Stories()
    stories.take(event(told.opened(told.symptom("health.refused"), incident=derived_id("open"))), at(0))
    for number in range(6):
        symptom = told.symptom("health.timeout")
        incident = derived_id("over", number)
        stories.take(event(told.opened(symptom, incident=incident), number), at(1 + number))
        stories.take(event(told.resolved(symptom, seconds=9, incident=incident), number), at(2 + number))
    screen = LiveScreen(console)
    screen.show(list(stories), Pulse(), "the status")
    screen.close()

    shown = out.getvalue()
    assert "health.refused" in shown
    assert "the status" in shown
    assert "and 3 earlier" in shown


def test_only_a_terminal_gets_the_live_screen() -> None:
    assert isinstance(screen_for(io.StringIO()), PlainScreen)


def test_stories_are_forgotten_oldest_resolved_first_and_open_ones_never() -> None:
    stories = Stories()
    stories.take(event(told.opened(told.symptom("health.refused"), incident=derived_id("open"))), at(0))
    for number in range(300):
        symptom, incident = told.symptom("health.timeout"), derived_id("over", number)
        stories.take(event(told.opened(symptom, incident=incident), number), at(number))
        stories.take(event(told.resolved(symptom, seconds=9, incident=incident), number), at(number))

    assert len(list(stories)) <= 201
    assert stories.get(derived_id("open")) is not None
    assert stories.get(derived_id("over", 0)) is None


def test_the_pulse_shows_the_last_word_of_each_service() -> None:
    pulse = Pulse()
    pulse.take(event(HeartbeatSeen(service="shop", healthy=True, latency_ms=12)))
    pulse.take(event(HeartbeatSeen(service="shop", healthy=False, answer="timeout")))
    pulse.take(event(MetricSampled(service="shop", metric="process.memory.usage", value=24e6)))
    pulse.take(event(LogWritten(service="shop", message="no", level="error")))

    assert pulse.health_of("shop") == "timeout"
    assert pulse.health_of("nobody") == ""
    assert pulse.services["shop"].values == {"memory": "24 MB"}
    assert pulse.services["shop"].errors == 1


def test_the_rate_is_over_the_last_ten_seconds() -> None:
    pulse = Pulse()
    pulse.count(0.0, 1000)
    for second in range(100, 111):
        pulse.count(float(second), 5)
    assert pulse.events_per_s == pytest.approx(5.0)


def test_a_repair_that_was_only_started_is_told_as_tried() -> None:
    plan = told.plan()
    started = ActionStarted(
        action=derived_id("action"), plan=plan.plan, incident=plan.incident, system="ledger", problem=plan.problem,
        solution=plan.solution, attempt=1, request=plan.request, digest=plan.request.digest,
    )  # fmt: skip
    story = story_of([told.opened(told.symptom("health.refused")), plan, started])
    assert story.repairs[0].started_at == at(2)
    assert story.cure is None
    assert story.heard_at + timedelta(seconds=2) == story.repairs[0].started_at
