"""When an incident is diagnosed, and as what."""

from __future__ import annotations

from typing import Any

from agents.diagnostic.diagnose import Diagnose, DiagnoseConfig
from agents.ports import RecallProblem, Recollection, SolutionRecord
from tests.agents.stories import SOLUTIONS, SYSTEMS, opened, resolved, symptom, updated
from tests.agents.world import AnsweringWorld, Answers, event, process
from topology.errors import AiopsError
from topology.event import Payload
from topology.payloads.diagnoses import ProblemDiagnosed, SimilarProblem
from topology.payloads.operation import TickPassed

NOTHING_KNOWN: Answers = {RecallProblem: lambda _: Recollection()}


def diagnose() -> Diagnose:
    return Diagnose(DiagnoseConfig(systems=SYSTEMS, solutions=SOLUTIONS))


def said(agent: Diagnose, *timed: tuple[float, Payload], answers: Answers = NOTHING_KNOWN) -> list[Any]:
    return [payload for seconds, happened in timed for payload in process(agent, event(happened, seconds), answers)]


def diagnosis_of(*symptoms: Any) -> ProblemDiagnosed:
    (found,) = said(diagnose(), (0, opened(*symptoms)), (2, TickPassed()))
    assert isinstance(found, ProblemDiagnosed)
    return found


def test_symptoms_may_gather_for_a_second_and_then_one_diagnosis_is_made() -> None:
    agent = diagnose()
    early = said(agent, (0.2, opened(symptom("health.http_503"))), (1, TickPassed()))
    late = said(
        agent,
        (1.1, updated(symptom("health.http_503"), symptom("health.refused", "ledger-store"))),
        (2, TickPassed()),
        (3, TickPassed()),
    )

    assert early == []
    assert [(d.service, d.title) for d in late] == [("ledger-store", "ledger-store refuses connections")]


def test_the_six_faults_of_the_patient_are_six_problems() -> None:
    problems = [
        diagnosis_of(symptom("health.refused")),
        diagnosis_of(symptom("health.timeout"), symptom("latency.high")),
        diagnosis_of(symptom("memory.high")),
        diagnosis_of(symptom("health.http_500"), symptom("log.errors", subject="fee < 0")),
        diagnosis_of(symptom("latency.high")),
        diagnosis_of(symptom("health.http_503"), symptom("health.refused", "ledger-store")),
    ]

    assert len({problem.problem for problem in problems}) == 6
    assert all(problem.problem.startswith("fp:v1:") for problem in problems)


def test_a_problem_is_the_same_whatever_else_is_seen_and_when() -> None:
    alone = diagnosis_of(symptom("health.refused"))
    noisy = diagnosis_of(
        symptom("latency.high", over=1), symptom("health.refused"), symptom("log.errors", subject="oh no")
    )

    assert noisy.problem == alone.problem
    assert noisy.error_patterns == ("oh no",)


def test_what_is_logged_tells_problems_apart_that_show_in_the_log_only() -> None:
    one, other = (diagnosis_of(symptom("log.errors", subject=subject)) for subject in ("disk full", "no route"))

    assert one.problem != other.problem
    assert one.title == "ledger logs errors: disk full"
    assert one.confidence < 0.5


def test_what_the_knowledge_recalls_is_in_the_diagnosis() -> None:
    def recall(question: RecallProblem) -> Recollection:
        record = SolutionRecord(problem=question.problem, solution="restart", target="ledger", successes=2, trials=3)
        return Recollection(
            known=True, records=(record,), similar=(SimilarProblem(problem="q", title="t", similarity=0.5),)
        )

    (found,) = said(
        diagnose(), (0, opened(symptom("health.refused"))), (1, TickPassed()), answers={RecallProblem: recall}
    )

    assert found.recalled
    assert found.candidates[0].proven
    assert (found.candidates[0].successes, found.candidates[0].trials) == (2, 3)
    assert found.similar[0].problem == "q"
    assert found.confidence > diagnosis_of(symptom("health.refused")).confidence


def test_a_knowledge_that_cannot_be_reached_does_not_hold_up_a_repair() -> None:
    def recall(_: RecallProblem) -> Recollection:
        raise AiopsError("the database is away")

    (found,) = said(
        diagnose(), (0, opened(symptom("health.refused"))), (1, TickPassed()), answers={RecallProblem: recall}
    )

    assert found.candidates
    assert "the database is away" in found.context["degraded"]


def test_what_has_passed_before_a_conclusion_is_not_diagnosed_unless_it_comes_back() -> None:
    agent = diagnose()
    passed = said(
        agent,
        (0, opened(symptom("health.refused"))),
        (0.5, updated(symptom("health.refused", over=0.5))),
        (2, TickPassed()),
    )
    back = said(agent, (2.5, updated(symptom("health.refused"))), (3, TickPassed()))

    assert passed == []
    assert len(back) == 1


def test_a_cause_further_upstream_that_stays_is_a_second_diagnosis() -> None:
    agent = diagnose()
    both = updated(symptom("health.http_503"), symptom("health.refused", "ledger-store"))
    found = said(
        agent, (0, opened(symptom("health.http_503"))), (1, TickPassed()), (5, both), (5.5, both), (6, TickPassed())
    )

    assert [d.service for d in found] == ["ledger", "ledger-store"]
    assert said(agent, (7, both), (8, TickPassed())) == []


def test_a_symptom_a_repair_causes_in_passing_is_no_new_cause() -> None:
    agent = diagnose()
    found = said(
        agent,
        (0, opened(symptom("latency.high"))),
        (1, TickPassed()),
        (5, updated(symptom("latency.high"), symptom("health.refused", "ledger-store"))),
        (5.9, updated(symptom("latency.high"), symptom("health.refused", "ledger-store", over=5.9))),
        (6, TickPassed()),
        (7, updated(symptom("latency.high"), symptom("health.refused"))),
        (9, TickPassed()),
    )

    assert len(found) == 1


def test_a_resolved_incident_is_forgotten() -> None:
    agent = diagnose()
    ended = resolved(symptom("health.refused", over=0.5), seconds=0.9)

    assert said(agent, (0, opened(symptom("health.refused"))), (0.9, ended), (2, TickPassed())) == []
    assert len(agent.cases) == 0


def test_after_a_stop_of_the_pipeline_what_is_over_may_clear_before_anything_is_concluded() -> None:
    agent = diagnose()
    said(agent, (0, TickPassed()), (0.5, opened(symptom("health.refused"))))

    assert said(agent, (600, TickPassed()), (602, updated(symptom("health.refused", over=602)))) == []
    assert said(agent, (605, TickPassed())) == []


def test_every_question_is_asked_before_anything_is_remembered() -> None:
    agent = diagnose()
    said(agent, (0, opened(symptom("health.refused"))))
    agent.tables["cases"].changes()

    class Seeing(AnsweringWorld):
        async def ask(self, question: Any) -> Any:
            assert all(not table.changes() for table in agent.tables.values())
            return await super().ask(question)

    world = Seeing(answers=NOTHING_KNOWN)
    assert process(agent, event(TickPassed(), 2), world=world)
    assert len(world.asked) == 1
