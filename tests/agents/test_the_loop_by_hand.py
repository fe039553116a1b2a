"""All agents together, as the shipped topology wires them, through the six faults of a make-believe patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from agents.ports import ExecuteAction, RecallProblem
from tests.agents.loop_by_hand import LoopByHand, shipped_topology
from tests.agents.sickbed import FAULTS, Experience, Patient
from tests.agents.world import Answers
from topology.graph import Topology
from topology.payloads.diagnoses import ProblemDiagnosed
from topology.payloads.healing import ActionFinished, ActionStarted, OutcomeVerified, PlanProposed
from topology.payloads.incidents import IncidentOpened, IncidentResolved
from topology.payloads.lessons import ExperienceRecorded


@pytest.fixture(scope="module")
def topology() -> Topology:
    return shipped_topology()


@dataclass
class Story:
    """A patient, the loop and what was learned, in one virtual time."""

    topology: Topology
    restart_always: bool = False
    patient: Patient = field(default_factory=Patient)
    experience: Experience = field(default_factory=Experience)
    now: float = 0.0
    noise: Random | None = None

    def __post_init__(self) -> None:
        answers: Answers = {ExecuteAction: self.patient.execute, RecallProblem: self.experience.recall}
        self.loop = LoopByHand(self.topology, answers, restart_always=self.restart_always)
        self._taught = 0

    def live(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            ticked = int(self.now)
            self.now += self.noise.uniform(0.3, 0.8) if self.noise else 0.5
            telemetry = list(self.patient.telemetry(self.now))
            if self.noise:
                self.noise.shuffle(telemetry)
            self.loop.hear(self.now, telemetry)
            if int(self.now) > ticked:
                self.loop.tick(int(self.now))
            experiences = self.loop.payloads(ExperienceRecorded)
            for experience in experiences[self._taught :]:
                self.experience.learn(experience)
            self._taught = len(experiences)

    def suffer(self, fault: str, seconds: float = 45.0) -> Suffering:
        """Inject a fault and follow it to the end of its incident."""
        before = len(self.loop.said)
        self.loop.hear(self.now, self.patient.fall_ill(fault, self.now))
        began = self.now
        while self.now < began + seconds and not self._resolved(before):
            self.live(0.5)
        return Suffering(began, [(e.timestamp, e.payload) for e in self.loop.said[before:]])

    def _resolved(self, before: int) -> bool:
        return any(isinstance(event.payload, IncidentResolved) for event in self.loop.said[before:])


class Suffering:
    """What the loop said about one fault."""

    def __init__(self, began: float, said: list[tuple[object, object]]) -> None:
        self.began = began
        payloads = [payload for _, payload in said]
        self.opened = [p for p in payloads if isinstance(p, IncidentOpened)]
        self.resolved = [p for p in payloads if isinstance(p, IncidentResolved)]
        self.diagnosed = [p for p in payloads if isinstance(p, ProblemDiagnosed)]
        self.plans = [p for p in payloads if isinstance(p, PlanProposed)]
        self.started = [p for p in payloads if isinstance(p, ActionStarted)]
        self.finished = [p for p in payloads if isinstance(p, ActionFinished)]
        self.outcomes = [p for p in payloads if isinstance(p, OutcomeVerified)]

    @property
    def tried(self) -> list[str]:
        return [f"{plan.solution} on {plan.request.target}" for plan in self.plans if plan.undo_of is None]


def test_a_crash_is_repaired_by_the_first_restart_within_twelve_seconds(topology: Topology) -> None:
    story = Story(topology)
    story.live(5)
    suffering = story.suffer("crash")

    assert suffering.tried == ["restart-service on ledger"]
    assert [outcome.verdict for outcome in suffering.outcomes] == ["verified"]
    assert (suffering.opened[0].opened_at - suffering.resolved[0].resolved_at).total_seconds() > -12
    assert suffering.opened[0].symptoms[0].kind == "health.refused"
    assert story.patient.fault == ""


def test_a_bad_configuration_is_first_restarted_in_vain_and_then_rolled_back(topology: Topology) -> None:
    story = Story(topology)
    story.live(5)
    suffering = story.suffer("bad-config")

    assert suffering.tried == ["restart-service on ledger", "roll-back-change on ledger"]
    assert [outcome.verdict for outcome in suffering.outcomes] == ["rejected", "verified"]
    assert suffering.opened[0].changes[0].change == "version 2"
    assert suffering.diagnosed[0].error_patterns or suffering.diagnosed[0].evidence


def test_met_again_each_of_the_six_faults_is_recalled_and_repaired_at_the_first_attempt(topology: Topology) -> None:
    story = Story(topology)
    story.live(5)
    first = {}
    for fault in FAULTS:
        first[fault] = story.suffer(fault)
        story.live(4)
    second = {}
    for fault in FAULTS:
        second[fault] = story.suffer(fault)
        story.live(4)

    problems = {fault: suffering.diagnosed[0].problem for fault, suffering in first.items()}
    assert len(set(problems.values())) == 6
    assert {fault: suffering.diagnosed[0].problem for fault, suffering in second.items()} == problems
    assert sum(len(suffering.tried) > 1 for suffering in first.values()) >= 2
    for fault in FAULTS:
        assert [o.verdict for o in first[fault].outcomes][-1:] == ["verified"], fault
        assert first[fault].diagnosed[0].recalled is False, fault
        assert len(first[fault].diagnosed) == 1, fault
        assert [o.verdict for o in second[fault].outcomes] == ["verified"], fault
        assert second[fault].plans[0].recalled, fault
        assert second[fault].diagnosed[0].recalled, fault


@pytest.mark.parametrize("seed", range(4))
def test_timing_noise_changes_neither_the_problem_nor_the_cure(topology: Topology, seed: int) -> None:
    calm = Story(topology)
    noisy = Story(topology, noise=Random(seed))
    for fault in FAULTS:
        for story in (calm, noisy):
            story.live(5)
        expected, found = calm.suffer(fault), noisy.suffer(fault)
        assert [d.problem for d in found.diagnosed] == [d.problem for d in expected.diagnosed], fault
        assert found.tried == expected.tried, fault
        assert [o.verdict for o in found.outcomes] == [o.verdict for o in expected.outcomes], fault


def test_the_cause_of_each_fault_is_the_service_that_has_it(topology: Topology) -> None:
    causes = {}
    for fault in FAULTS:
        story = Story(topology)
        story.live(5)
        diagnosis = story.suffer(fault).diagnosed[0]
        causes[fault] = (diagnosis.service, diagnosis.context["kind"])

    assert causes == {
        "crash": ("ledger", "health.refused"),
        "hang": ("ledger", "health.timeout"),
        "leak": ("ledger", "memory.high"),
        "bad-config": ("ledger", "health.http_500"),
        "eater": ("ledger", "latency.high"),
        "backend-lost": ("ledger-store", "health.refused"),
    }


def test_every_action_has_one_start_one_end_and_at_most_one_outcome(topology: Topology) -> None:
    story = Story(topology)
    story.live(5)
    for fault in FAULTS:
        suffering = story.suffer(fault)
        started = [action.action for action in suffering.started]
        assert len(set(started)) == len(started)
        assert [action.action for action in suffering.finished] == started
        outcomes = [outcome.action for outcome in suffering.outcomes]
        assert len(set(outcomes)) == len(outcomes)
        story.live(4)


def test_agents_restored_from_their_rows_before_every_event_conclude_the_same(topology: Topology) -> None:
    def lived(*, restart_always: bool) -> Story:
        story = Story(topology, restart_always=restart_always)
        story.live(3)
        for fault in ("bad-config", "backend-lost"):
            story.suffer(fault)
            story.live(3)
        return story

    straight, restarted = lived(restart_always=False), lived(restart_always=True)

    assert restarted.loop.said == straight.loop.said
    assert restarted.loop.rows() == straight.loop.rows()


def test_a_healthy_patient_gives_no_finding_in_five_minutes(topology: Topology) -> None:
    story = Story(topology)
    story.live(300)

    assert [e.payload for e in story.loop.said if e.source not in {"normalize"}] == []
