"""The language of conditions: what it says about an event, and what it refuses before any event comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.condition import TEXT_MAX, Condition, ConditionError
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.moments import from_us
from topology.payloads import AnomalyDetected, AnswerRecorded, HeartbeatSeen, LogWritten, MetricSampled


def event(payload: Payload) -> Event[Payload]:
    return Event(id=derived_id("e"), timestamp=from_us(0), source="probe", payload=payload)


def holds(text: str, payload: Payload) -> bool:
    return Condition.parse(text).for_payload(type(payload))(event(payload))


HIGH = AnomalyDetected(service="web", system="shop", kind="latency.high", severity="high", value=0.5)
METRIC = MetricSampled(service="web", metric="cpu", value=0.93, labels={"region": "eu", "a-b": "c"})


@pytest.mark.parametrize(
    ("text", "payload", "expected"),
    [
        ("payload.severity == 'high'", HIGH, True),
        ("payload.severity != 'high'", HIGH, False),
        ("payload.severity >= 'high'", HIGH, True),
        ("payload.severity > 'high'", HIGH, False),
        ("payload.severity < 'critical'", HIGH, True),
        ("'warning' < payload.severity", HIGH, True),
        ("payload.severity in ['high', 'critical']", HIGH, True),
        ("payload.severity not in ['high', 'critical']", HIGH, False),
        ("payload.value > 0.9", METRIC, True),
        ("0 < payload.value < 0.5", METRIC, False),
        ("payload.value <= 1", METRIC, True),
        ("payload.value > -1", METRIC, True),
        ("not payload.value > 0.9", METRIC, False),
        ("payload.metric == 'mem' or payload.service == 'web' and payload.value > 1", METRIC, False),
        ("(payload.metric == 'mem' or payload.service == 'web') and payload.value < 1", METRIC, True),
        ("payload.labels.region == 'eu'", METRIC, True),
        ("payload.labels['a-b'] == 'c'", METRIC, True),
        ("payload.labels.zone == 'a'", METRIC, False),
        ("payload.labels.zone == null", METRIC, True),
        ("payload.labels.zone != 'a'", METRIC, True),
        ("payload.score > 1", HIGH, False),
        ("payload.score <= 1", HIGH, False),
        ("payload.healthy", HeartbeatSeen(service="web", healthy=True), True),
        ("not payload.healthy", HeartbeatSeen(service="web", healthy=True), False),
        ("payload.healthy == false", HeartbeatSeen(service="web", healthy=True), False),
        ("payload.level >= 'error'", LogWritten(service="web", message="m", level="critical"), True),
        ("source == 'probe' and event_type == 'metric.sampled'", METRIC, True),
        ("source == 'door'", METRIC, False),
    ],
)
def test_a_condition_holds_or_not(text: str, payload: Payload, expected: bool) -> None:
    assert holds(text, payload) is expected


@pytest.mark.parametrize(
    ("text", "payload", "message"),
    [
        (
            "payload.severty == 'high'",
            AnomalyDetected,
            "found `payload.severty`, and AnomalyDetected has no 'severty' there, expected one of evidence, expected, "
            "kind, score, service, severity, subject, summary, system, value; did you mean severity?",
        ),
        ("severity == 'high'", AnomalyDetected, "did you mean payload.severity?"),
        ("payload.severity == 'hgh'", AnomalyDetected, "did you mean high?"),
        ("payload.value == 'much'", MetricSampled, "expected a value of type float"),
        ("payload.service == 3", MetricSampled, "expected a value of type str"),
        ("payload.service > 'a'", MetricSampled, "expected a number, or a field with a fixed choice"),
        ("payload.service", MetricSampled, "which is not true or false"),
        ("payload.evidence == 'x'", AnomalyDetected, "`payload.evidence`, which is tuple"),
        ("payload.labels == 'x'", MetricSampled, "which is Mapping"),
        ("payload == 'x'", MetricSampled, "expected payload.FIELD, source or event_type"),
        ("payload.service == payload.metric", MetricSampled, "a text in quotes, a number, true, false or null"),
        ("payload.service in 'web'", MetricSampled, "expected a list such as"),
        ("payload.value is null", MetricSampled, "expected ==, !=, <, <=, >, >= or in"),
        ("len(payload.service) > 3", MetricSampled, "begin with the field"),
        ("__import__('os').system('true')", MetricSampled, "begin with the field"),
        ("payload.service.__class__ == 'x'", MetricSampled, "has no '__class__' there"),
        ("payload.a" + ".a" * 400 + " == 1", MetricSampled, "nested too deeply"),
        ("not " * 240 + "payload.service", MetricSampled, "not true or false"),
    ],
)
def test_what_does_not_fit_the_payload_is_refused(text: str, payload: type[Payload], message: str) -> None:
    with pytest.raises(ConditionError) as refused:
        Condition.parse(text).for_payload(payload)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "payload.severity =", "a = 1", "(" * 300, "payload.x == '\\q'", "\0", "x" * (TEXT_MAX + 1), "a; b"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConditionError, match="expected"):
        Condition.parse(text)


def test_of_what_may_be_anything_everything_may_be_asked() -> None:
    recorded = AnswerRecorded(stage="s", event=derived_id("e"), question="q", answer="yes")

    assert holds("payload.answer == 'yes'", recorded)
    assert not holds("payload.answer == 3", recorded)
    assert not holds("payload.answer > 3", recorded), "a text is not more than a number"
    many = recorded.model_copy(update={"answer": ["yes"]})
    assert not holds("payload.answer in ['yes', 'no']", many)


WORDS = ("payload", "severity", "value", "labels", "score", "source", "and", "or", "not", "in", "==", "<", ">=", "!=")
MORE = ("'high'", "'x'", "3", "-0.5", "true", "null", "(", ")", "[", "]", ",", ".", "is", "lambda", "0 <", "\\")


@given(st.lists(st.sampled_from(WORDS + MORE), max_size=12), st.sampled_from(["", " "]), st.text(max_size=8))
def test_whatever_is_written_is_refused_or_answers_every_event(words: list[str], between: str, more: str) -> None:
    for text in (between.join(words), more, "payload.value < 1 and " + between.join(words)):
        for payload in (HIGH, METRIC):
            try:
                test = Condition.parse(text).for_payload(type(payload))
            except ConditionError:
                continue
            assert test(event(payload)) in (True, False)


_SEVERITIES = ("info", "warning", "high", "critical")


@given(st.sampled_from(_SEVERITIES), st.sampled_from(_SEVERITIES), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
def test_a_fixed_choice_is_in_the_order_it_is_declared_in(one: str, other: str, op: str) -> None:
    found = AnomalyDetected.model_validate({"service": "s", "system": "s", "kind": "k", "severity": one})
    expected = eval(f"{_SEVERITIES.index(one)} {op} {_SEVERITIES.index(other)}")  # noqa: S307

    assert holds(f"payload.severity {op} '{other}'", found) is expected
