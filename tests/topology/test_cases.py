"""Tests beside a topology: what is misspelt in them is a defect with its line, never an expectation that is met."""

from __future__ import annotations

import pytest

from agents.ports import ExecuteAction, RecallProblem
from tests.topology.loop_of_three import TEXT, load
from topology.case_check import case_defects
from topology.cases import parse_cases
from topology.defects import BrokenTopologyError, Defect, in_order
from topology.expectation import unmet
from topology.graph import Topology
from topology.parse import parse
from topology.resolve import resolve

CASES = """\
answers:
  - {question: ExecuteAction, about: {request: {operation: restart}}, answer: {status: succeeded}}
tests:
  - name: a value is noticed
    given:
      - {stream: intake, type: MetricSampled, at: 1s, every: 1s, times: 3, payload: {service: web, metric: cpu, value: 1}}
    until: 5s
    expect:
      - {stream: findings, type: AnomalyDetected, payload: {kind: seen}, count: 3}
      - {stream: incidents, count: 0}
"""


@pytest.fixture(scope="module")
def tiny() -> Topology:
    return resolve(parse(TEXT), load)


def _defects(text: str, topology: Topology) -> tuple[Defect, ...]:
    questions = {kind.__name__: kind for kind in (ExecuteAction, RecallProblem)}
    try:
        spec, places = parse_cases(text, "tiny.test.yaml")
    except BrokenTopologyError as refusal:
        return refusal.defects
    return in_order(case_defects(spec, places, topology, also={}, questions=questions))


def test_what_fits_has_no_defects(tiny: Topology) -> None:
    assert _defects(CASES, tiny) == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "ExecuteAction,",
            "ExecutAction,",
            "tiny.test.yaml:2: error: answers[0].question: found an answer to 'ExecutAction', expected a question that "
            "agents ask (ExecuteAction, RecallProblem); did you mean ExecuteAction?",
        ),
        (
            "{status: succeeded}",
            "{status: done}",
            "tiny.test.yaml:2: error: answers[0].answer.status: found 'done', expected 'succeeded', 'failed' or "
            "'refused'; change it",
        ),
        (
            "{operation: restart}",
            "{operatoin: restart}",
            "tiny.test.yaml:2: error: answers[0].about.request.operatoin: found the field 'operatoin', which ActionRequest "
            "does not have, expected one of executor, operation, parameters, target; did you mean operation?",
        ),
        (
            "    given:",
            "    only: [notice, gahter]\n    given:",
            "tiny.test.yaml:5: error: tests[0].only[1]: found the stage 'gahter', expected one of the topology's (gather, "
            "notice); did you mean gather?",
        ),
        (
            "stream: intake",
            "stream: intakes",
            "tiny.test.yaml:6: error: tests[0].given[0].stream: found an event for 'intakes', expected a declared stream "
            "(findings, incidents, intake); did you mean intake?",
        ),
        (
            "type: MetricSampled",
            "type: HeartbeatSeen",
            "tiny.test.yaml:6: error: tests[0].given[0].type: found 'HeartbeatSeen' on stream 'intake', expected one of "
            "what it carries (LogWritten, MetricSampled); correct the type or the stream",
        ),
        (
            "value: 1}",
            "value: much}",
            "tiny.test.yaml:6: error: tests[0].given[0].payload.value: found 'much', expected a valid number, unable to "
            "parse string as a number; change it",
        ),
        (
            " every: 1s,",
            "",
            "tiny.test.yaml:6: error: tests[0].given[0]: found one of `every` and `times`, expected both or neither; change it",
        ),
        (
            "until: 5s",
            "until: 2s",
            "tiny.test.yaml:7: error: tests[0].until: found an end before the last event of 'intake' is given, expected a "
            "time after all of them; give fewer events, or look later",
        ),
        (
            "stream: incidents",
            "stream: incident",
            "tiny.test.yaml:10: error: tests[0].expect[1].stream: found something expected on 'incident', expected a "
            "declared stream (findings, incidents, intake); did you mean incidents?",
        ),
        (
            "type: AnomalyDetected",
            "type: AnomalyDetect",
            "tiny.test.yaml:9: error: tests[0].expect[0].type: found 'AnomalyDetect' on stream 'findings', expected one of "
            "what it carries (AnomalyDetected); did you mean AnomalyDetected?",
        ),
        (
            "kind: seen",
            "kid: seen",
            "tiny.test.yaml:9: error: tests[0].expect[0].payload.kid: found the field 'kid', which AnomalyDetected does not "
            "have, expected one of evidence, expected, kind, score, service, severity, subject, summary, system, value; "
            "did you mean kind?",
        ),
        (
            "name: a value is noticed",
            "name: ''",
            "tiny.test.yaml:4: error: tests[0].name: found '', expected at least one character; change it",
        ),
    ],
)
def test_each_defect_names_its_line_and_the_way_out(old: str, new: str, message: str, tiny: Topology) -> None:
    assert CASES.count(old) == 1

    assert [str(defect) for defect in _defects(CASES.replace(old, new), tiny)] == [message]


def test_a_name_is_used_once(tiny: Topology) -> None:
    twice = CASES + CASES.partition("tests:\n")[2]

    [defect] = _defects(twice, tiny)
    assert (defect.line, defect.found) == (11, "test 'a value is noticed' a second time (first in line 4)")


def test_a_stream_in_memory_only_shows_nothing_to_expect(tiny: Topology) -> None:
    passing = resolve(parse(TEXT.replace("key: system, ticks: 1s}", "key: system, stored: false}").replace("tiny:Gather", "tiny:Collect").replace("key: service", "key: system")), load)  # fmt: skip

    [defect] = _defects(CASES, passing)
    assert (defect.line, defect.found) == (9, "something expected on 'findings', which is in memory only")


@pytest.mark.parametrize("text", ["", "- 1", "tests: []", "test: 1"])
def test_what_is_no_file_of_tests_is_refused(text: str, tiny: Topology) -> None:
    assert _defects(text, tiny)


def test_without_events_nothing_is_near(tiny: Topology) -> None:
    spec, _ = parse_cases(CASES, "tiny.test.yaml")
    some, none = spec.tests[0].expect

    failure = unmet(some, [], start_us=0, line=9, path=())
    assert failure is not None
    assert (failure.found, failure.details) == ("none of 0 AnomalyDetected on 'findings'", ())
    assert unmet(none, [], start_us=0, line=10, path=()) is None
