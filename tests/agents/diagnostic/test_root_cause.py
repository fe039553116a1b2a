"""Which symptom is the cause of the others."""

from __future__ import annotations

from itertools import permutations

import pytest

from agents.diagnostic.root_cause import find_cause, upstream_of
from tests.agents.stories import SYSTEMS, symptom
from topology.payloads.incidents import Symptom
from topology.spec import ServiceSpec

SERVICES = SYSTEMS["ledger"].services


@pytest.mark.parametrize(
    ("symptoms", "cause"),
    [
        ([symptom("health.http_503"), symptom("health.refused", "ledger-store")], ("ledger-store", "health.refused")),
        ([symptom("health.refused"), symptom("latency.high", "ledger-store")], ("ledger", "health.refused")),
        ([symptom("health.refused"), symptom("log.errors", "ledger-store")], ("ledger", "health.refused")),
        ([symptom("latency.high"), symptom("latency.high", "ledger-store")], ("ledger-store", "latency.high")),
        ([symptom("health.timeout"), symptom("latency.high")], ("ledger", "health.timeout")),
        ([symptom("memory.high"), symptom("latency.high")], ("ledger", "memory.high")),
        ([symptom("log.errors"), symptom("alert.x")], ("ledger", "log.errors")),
        ([symptom("metric.surprise", severity="info"), symptom("alert.x")], ("ledger", "alert.x")),
        ([symptom("health.refused"), symptom("health.refused", "ledger-store")], ("ledger-store", "health.refused")),
    ],
    ids=lambda given: None if isinstance(given, list) else "-".join(given),
)
def test_the_cause_is_the_most_telling_symptom_no_dependency_explains_in_whatever_order_they_came(
    symptoms: list[Symptom], cause: tuple[str, str]
) -> None:
    for order in permutations(symptoms):
        found = find_cause(order, SERVICES)
        assert found is not None
        assert (found.symptom.service, found.symptom.kind) == cause


def test_without_symptoms_there_is_no_cause() -> None:
    assert find_cause([], SERVICES) is None


def test_services_that_depend_on_each_other_in_a_circle_do_not_hide_the_cause() -> None:
    circle = {"a": ServiceSpec(depends_on=("b",)), "b": ServiceSpec(depends_on=("a",))}
    found = find_cause([symptom("latency.high", "a"), symptom("health.timeout", "b")], circle)

    assert found is not None
    assert found.symptom.service == "b"
    assert upstream_of("a", circle) == {"b"}


def test_independent_services_that_are_ill_are_rivals() -> None:
    found = find_cause([symptom("health.refused", "ledger-store"), symptom("health.refused", "mail")], SERVICES)

    assert found is not None
    assert found.rivals == 1
