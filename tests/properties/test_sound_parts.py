"""Defects of form hide no other defects, and bring none with them that are not there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings

from tests.properties.test_topology_check import tampered
from tests.topology.loop_of_three import TEXT, changed, load
from topology.agent import Agent, AgentConfig
from topology.check import check
from topology.defects import BrokenTopologyError
from topology.parse import parse
from topology.payloads import AnomalyDetected, IncidentOpened
from topology.sound_parts import check_text

Change = tuple[str, str]

FORM: Sequence[Change] = (
    ("name: tiny", "name: T!"),
    ("[MetricSampled, LogWritten], key: service}", "[MetricSampled, LogWritten], key: service, partitions: 0}"),
    ("key: service}", "key: service, retain: long}"),
    ("ticks: 1s", "ticks: soon"),
    ("    consumes: intake", "    consumes: intake\n    retry: {attempts: 0}"),
    ("{depends_on: [store]}", "{dependson: [store]}"),
    ("title: Restart", "titel: Restart"),
)
WITHOUT_A_STAGE: Sequence[Change] = (
    ("    agent: tiny:Gather\n", ""),
    ("    emits: incidents", "    emits: incidents\n    emit: x"),
)
"""What is wrong with the second stage besides is found once these are mended."""
OTHERS: Sequence[Change] = (
    ("carries: [IncidentOpened]", "carries: [IncidentOpened, IncidentClosed]"),
    ("agent: tiny:Notice", "agent: gone:Notice"),
    ("    emits: findings", "    emits: findngs"),
    ("    consumes: [findings]", "    consumes: [findings, nowhere]"),
    ("id: gather", "id: notice"),
    ("value_max: 3", "value_maximum: 3"),
)


def _found(text: str) -> set[tuple[str, str]]:
    return {(defect.expected, defect.remedy) for defect in check_text(text, "tiny.yaml", load)}


@pytest.mark.parametrize("form", [*FORM, *WITHOUT_A_STAGE])
def test_what_has_the_wrong_form_makes_nothing_else_look_wrong(form: Change) -> None:
    with pytest.raises(BrokenTopologyError) as refusal:
        parse(changed(*form), "tiny.yaml")

    assert check_text(changed(*form), "tiny.yaml", load) == refusal.value.defects


@pytest.mark.parametrize("form", FORM)
@pytest.mark.parametrize("other", OTHERS)
def test_beside_a_defect_of_form_the_same_is_found_as_without_it(form: Change, other: Change) -> None:
    assert _found(changed(*other, changed(*form))) == _found(changed(*form)) | _found(changed(*other))


@pytest.mark.parametrize("form", WITHOUT_A_STAGE)
@pytest.mark.parametrize("other", OTHERS)
def test_of_a_stage_that_cannot_be_read_only_that_is_told(form: Change, other: Change) -> None:
    alone, found = _found(changed(*form)), _found(changed(*other, changed(*form)))

    assert alone <= found <= alone | _found(changed(*other))
    if other not in OTHERS[3:5]:  # those are about this very stage
        assert found == alone | _found(changed(*other))


def test_a_stage_behind_a_broken_one_is_checked_and_found_at_its_own_place() -> None:
    text = changed("    consumes: [findings]", "    consumes: [findngs]", changed("agent: tiny:Notice", "agent: tiny"))

    defects = check_text(text, "tiny.yaml", load)

    assert [(defect.line, defect.path) for defect in defects] == [
        (8, ("stages", 0, "agent")),
        (14, ("stages", 1, "consumes", 0)),
    ]


def test_what_depends_on_a_stream_that_is_not_known_well_is_not_blamed() -> None:
    [defect] = check_text(changed("ticks: 1s", "ticks: soon"), "tiny.yaml", load)

    assert defect.path == ("streams", "findings", "ticks")


class Strict(Agent[AnomalyDetected, IncidentOpened]):
    """An agent that cannot do without its settings."""

    class Config(AgentConfig):
        """Its settings."""

        word: str


def test_settings_that_cannot_be_read_are_not_missed_too() -> None:
    text = changed("    emits: incidents", "    emits: incidents\n    config: 7")

    [defect] = check_text(text, "tiny.yaml", lambda name: Strict if name == "tiny:Gather" else load(name))

    assert (defect.path, defect.found) == (("stages", 1, "config"), "7")


def test_everything_is_told_of_a_topology_with_defects_of_all_kinds() -> None:
    text = TEXT
    for change in (*FORM[2:3], *FORM[4:], *OTHERS[:1], *OTHERS[2:]):
        text = changed(*change, text)

    lines = [defect.line for defect in check_text(text, "tiny.yaml", load)]

    assert lines == [3, 5, 10, 11, 12, 13, 15, 18, 20, 20]


@given(tampered())
@settings(max_examples=300)
def test_no_less_is_found_than_by_parsing_and_checking(text: str) -> None:
    try:
        first = check(parse(text, "tiny.yaml"), load)
    except BrokenTopologyError as broken:
        first = broken.defects

    at_once = check_text(text, "tiny.yaml", load)

    assert set(first) <= set(at_once)
    assert [defect.line for defect in at_once] == sorted(defect.line for defect in at_once)
