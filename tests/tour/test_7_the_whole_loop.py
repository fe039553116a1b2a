"""Chapter 7. The topology that ships, from a probe that is refused to a lesson learned, in virtual time, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from agents.ports import ExecuteAction, ExecutionReport, RecallProblem, Recollection
from pipeline.engine.asking import Handlers
from pipeline.engine.drive import Driver
from pipeline.loading import load_topology
from tests.tour.small_world import NOON
from topology import Event, Payload
from topology.codec import encode
from topology.ids import derived_id
from topology.moments import to_us
from topology.payloads import ExperienceRecorded, HeartbeatSeen, IncidentResolved, OutcomeVerified, PlanProposed

CRASHES_AT_S = 5.0


class Ledger:
    """A make-believe service that crashes and comes back when somebody restarts it."""

    def __init__(self) -> None:
        self.is_repaired = False
        self.asked: list[str] = []

    def probes(self, until_s: float) -> Iterator[Event[Payload]]:
        """A probe every half second, answered as the service is at that time."""
        for number in range(int(until_s * 2)):
            at = NOON + timedelta(seconds=number / 2)
            is_down = number / 2 >= CRASHES_AT_S and not self.is_repaired
            answer = "refused" if is_down else "ok"
            payload = HeartbeatSeen(service="ledger", healthy=not is_down, answer=answer, latency_ms=3.0)
            yield Event(id=derived_id("probe", number), timestamp=at, source="probes", payload=payload)

    async def execute(self, question: ExecuteAction) -> ExecutionReport:
        self.asked.append(f"{question.request.operation} {question.request.target}")
        self.is_repaired = True
        return ExecutionReport(status="succeeded", detail="started anew")


async def nothing_known(question: RecallProblem) -> Recollection:
    return Recollection()


async def told_by_the_loop() -> tuple[Ledger, Driver]:
    """Half a minute of a service that crashes after five seconds."""
    ledger = Ledger()
    handlers: Handlers = {RecallProblem: nothing_known, ExecuteAction: ledger.execute}
    driver = Driver(load_topology(), handlers, start_us=to_us(NOON))
    for probe in ledger.probes(until_s=30):
        await driver.play("intake", [probe])
    return ledger, driver


async def test_a_crash_is_noticed_explained_repaired_verified_and_learned_from() -> None:
    ledger, driver = await told_by_the_loop()

    assert ledger.asked == ["restart ledger"], "done once, on the one that is ill"
    [plan] = [e.payload for e in await driver.events("plans") if isinstance(e.payload, PlanProposed)]
    assert (plan.solution, plan.autonomy) == ("restart-service", "auto")
    [outcome] = [e.payload for e in await driver.events("outcomes") if isinstance(e.payload, OutcomeVerified)]
    assert outcome.verdict == "verified"
    [lesson] = [e.payload for e in await driver.events("lessons") if isinstance(e.payload, ExperienceRecorded)]
    assert lesson.succeeded
    resolved = [e.payload for e in await driver.events("incidents") if isinstance(e.payload, IncidentResolved)]
    assert len(resolved) == 1
    assert await driver.events("dead-letters") == []


async def test_an_incident_can_be_followed_back_to_the_probe_that_began_it() -> None:
    _, driver = await told_by_the_loop()
    by_id = {event.id: event for name in driver.topology.streams for event in await driver.events(name)}

    [step] = [event for event in await driver.events("incidents") if event.event_type == "incident.opened"]
    said_by = [step.source]
    while step.causation_id is not None:
        step = by_id[step.causation_id]
        said_by.append(step.source)

    assert said_by == ["correlate", "detect-health", "normalize", "probes"]


async def test_the_same_probes_lead_to_the_same_events_to_the_byte() -> None:
    first, second = [(await told_by_the_loop())[1] for _ in range(2)]

    for stream in ("findings", "incidents", "diagnoses", "plans", "actions", "outcomes", "lessons"):
        assert [encode(e) for e in await first.events(stream)] == [encode(e) for e in await second.events(stream)]
