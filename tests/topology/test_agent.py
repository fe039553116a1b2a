"""What an agent declares by its class, and what it does unless it says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError

from topology.agent import Agent, AgentConfig, World
from topology.event import Event, Payload
from topology.payloads import (
    ActionRequest,
    AlertFired,
    AlertResolved,
    AnomalyDetected,
    Candidate,
    HelpOffered,
    HelpRequested,
    LogWritten,
    MetricSampled,
    ProblemDiagnosed,
)
from topology.question import Question
from topology.state import BoundState, ClosedWindow, LateEntry

Alerts = AlertFired | AlertResolved
P = TypeVar("P", bound=Payload)

AT = datetime(2026, 11, 22, 14, 2, 7, tzinfo=UTC)


def _event(payload: P) -> Event[P]:
    return Event(id=UUID(int=1), timestamp=AT, source="test", payload=payload)


class Rows:
    """The smallest running state there is."""

    late: Sequence[LateEntry] = ()

    def restore(self, entries: Mapping[str, bytes], *, last: bool = True) -> None: ...

    def changes(self) -> dict[str, bytes | None]:
        return {}

    def snapshot(self) -> dict[str, bytes]:
        return {}

    def advance(self, watermark_us: int) -> list[ClosedWindow]:
        return []

    def take_late(self) -> list[LateEntry]:
        return []


class Remembered:
    def __init__(self, name: str) -> None:
        self.name = name

    def bind(self) -> BoundState:
        return Rows()


class WatchConfig(AgentConfig):
    times_max: int = 3


class Watch(Agent[MetricSampled | Alerts, AnomalyDetected]):
    Config = WatchConfig
    seen = Remembered("seen")
    told = Remembered("told")

    def process(self, event: Event[MetricSampled | Alerts], world: World) -> Iterable[AnomalyDetected]:
        yield AnomalyDetected(service=event.payload.service, system="shop", kind=f"over.{self.config.times_max}")


class WatchMore(Watch):
    """An agent made from another one: same types, one more table, one that replaces another."""

    told = Remembered("said")
    more = Remembered("more")


class ForLogs(Agent[LogWritten, P]):
    """Half declared: what is emitted is the child's."""


class LogWatch(ForLogs[AnomalyDetected], Agent[LogWritten, AnomalyDetected]):
    pass


def test_the_class_says_what_is_consumed_and_emitted() -> None:
    assert Watch.consumes == {MetricSampled, AlertFired, AlertResolved}
    assert Watch.emits == {AnomalyDetected}
    assert (WatchMore.consumes, WatchMore.emits) == (Watch.consumes, Watch.emits)


def test_a_half_declared_agent_is_completed_by_its_child() -> None:
    assert ForLogs.consumes == {LogWritten}
    assert ForLogs.emits == frozenset()
    assert LogWatch.consumes == {LogWritten}
    assert LogWatch.emits == {AnomalyDetected}


def test_a_half_declared_agent_that_is_not_completed_is_refused() -> None:
    with pytest.raises(TypeError, match=r"derive it also from Agent\[Consumed, Emitted\] itself"):

        class Forgetful(ForLogs[AnomalyDetected]):
            pass


def test_an_agent_wants_what_it_consumes_and_nothing_else() -> None:
    watch = Watch()

    assert watch.can_handle(_event(MetricSampled(service="web", metric="cpu", value=1)))
    assert not watch.can_handle(_event(LogWritten(service="web", message="hi")))


def test_tables_are_declared_by_the_class_and_kept_by_the_instance() -> None:
    one, other = Watch(), Watch()

    assert set(Watch.state_declarations()) == {"seen", "told"}
    assert set(one.tables) == {"seen", "told"}
    assert one.tables["seen"] is not other.tables["seen"]


def test_a_child_inherits_tables_and_may_replace_them() -> None:
    assert set(WatchMore().tables) == {"seen", "said", "more"}


def test_settings_have_defaults_and_cannot_change() -> None:
    assert Watch().config == WatchConfig()
    assert Watch(WatchConfig(times_max=5)).config.times_max == 5
    with pytest.raises(ValidationError):
        Watch().config.times_max = 7
    with pytest.raises(ValidationError):
        WatchConfig.model_validate({"times_maximum": 1})


async def test_an_agent_that_says_nothing_else_asks_for_no_help_and_offers_none() -> None:
    problem = ProblemDiagnosed(
        incident=UUID(int=2),
        system="shop",
        service="web",
        problem="fp:v1:x",
        title="",
        description="",
        severity="high",
        confidence=1.0,
    )
    request = HelpRequested(request=UUID(int=3), incident=UUID(int=2), system="shop", problem="fp:v1:x", description="")
    watch = Watch()

    await watch.initialize()
    assert watch.request_help(problem) is None
    assert watch.offer_help(request) is None
    assert list(watch.window_closed(ClosedWindow("seen", "web", 0, 1, 2))) == []
    await watch.shutdown()


def test_an_agent_without_a_process_says_so() -> None:
    with pytest.raises(NotImplementedError):
        LogWatch().process(_event(LogWritten(service="web", message="hi")), world=None)  # type: ignore[arg-type]


def test_a_bid_holds_what_the_bidder_would_do() -> None:
    candidate = Candidate(
        solution="restart", title="Restart", request=ActionRequest(executor="p", operation="restart", target="web")
    )
    offer = HelpOffered(
        request=UUID(int=3), incident=UUID(int=2), system="shop", bidder="b", candidate=candidate, confidence=0.5
    )

    assert HelpOffered.model_validate_json(offer.model_dump_json()) == offer


class Weather(BaseModel):
    degrees: float


class AskWeather(Question[Weather]):
    place: str


class AskWeatherPolitely(AskWeather):
    please: bool = True


class Shapeless(Question):  # type: ignore[type-arg]
    pass


def test_a_question_knows_the_type_of_its_answer() -> None:
    assert AskWeather.answer_type() is Weather
    assert AskWeatherPolitely.answer_type() is Weather


def test_a_question_that_does_not_say_its_answer_is_told_so() -> None:
    with pytest.raises(TypeError, match=r"derive it from Question\[TheAnswer\]"):
        Shapeless.answer_type()


def test_questions_are_values() -> None:
    assert AskWeather(place="Oslo") == AskWeather(place="Oslo")
    assert hash(AskWeather(place="Oslo")) == hash(AskWeather(place="Oslo"))
    with pytest.raises(ValidationError):
        AskWeather.model_validate({"place": "Oslo", "loudly": True})
