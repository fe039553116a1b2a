"""YAML text becomes a declaration, or a list of what is wrong with it, each with its line."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.loop_of_three import TEXT, changed
from topology.defects import BrokenTopologyError, Defect
from topology.errors import ConfigurationError, TopologyError
from topology.parse import parse


def _defects(text: str) -> tuple[Defect, ...]:
    with pytest.raises(BrokenTopologyError) as refusal:
        parse(text, "tiny.yaml")
    return refusal.value.defects


def _only(text: str) -> Defect:
    (defect,) = _defects(text)
    return defect


def test_a_text_becomes_a_declaration() -> None:
    spec = parse(TEXT).spec

    assert spec.name == "tiny"
    assert spec.streams["findings"].ticks == timedelta(seconds=1)
    assert [stage.id for stage in spec.stages] == ["notice", "gather"]
    assert spec.systems["shop"].services["web"].depends_on == ("store",)


def test_one_stream_may_be_written_without_a_list() -> None:
    notice, gather = parse(TEXT).spec.stages

    assert notice.consumes == ("intake",)
    assert gather.consumes == ("findings",)


def test_every_part_knows_its_line() -> None:
    places = parse(TEXT).places

    assert places.line_of(("streams", "findings")) == 4
    assert places.line_of(("stages", 0)) == 7
    assert places.line_of(("stages", 0, "config", "value_max")) == 11
    assert places.line_of(("stages", 0, "config", "never", "written")) == 11


def test_a_misspelt_key_is_refused_with_the_one_that_was_meant() -> None:
    defect = _only(changed("    consumes: intake", "    consume: intake\n    consumes: intake"))

    assert str(defect) == (
        "tiny.yaml:9: error: stages[0].consume: found an unknown key, expected one of agent, aliases, concurrency, "
        "config, consumes, emits, id, lateness, on_poison, pending_max, questions_max, records_per_step, retry; did you "
        "mean consumes?"
    )


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    text = changed(
        "ticks: 1s", "ticks: soon", changed("    agent: tiny:Gather\n", "", changed("name: tiny", "name: T!"))
    )

    assert [(defect.line, defect.found) for defect in _defects(text)] == [(1, "'T!'"), (4, "'soon'"), (12, "nothing")]


def test_a_wrong_name_in_a_list_is_one_defect_only() -> None:
    assert _only(changed("consumes: intake", "consumes: In Take")).expected.startswith("text of the form")


def test_a_broken_topology_is_an_error_of_configuration_with_a_line_for_each_defect() -> None:
    text = changed("ticks: 1s", "ticks: soon", changed("key: service", "key: [service]"))

    with pytest.raises(TopologyError) as refusal:
        parse(text, "tiny.yaml")

    assert isinstance(refusal.value, ConfigurationError)
    assert [line.split(":")[1] for line in str(refusal.value).splitlines()] == ["3", "4"]


def test_a_key_written_twice_is_refused_with_both_lines() -> None:
    defect = _only(changed("name: tiny\n", "name: tiny\nname: other\n"))

    assert (defect.line, defect.found) == (2, "the key 'name' a second time (first in line 1)")


def test_anchors_and_merge_keys_are_allowed() -> None:
    text = changed("  intake: {", "  intake: &common {").replace(
        "findings: {carries: [AnomalyDetected], key: system, ticks: 1s}",
        "findings:\n    <<: *common\n    carries: [AnomalyDetected]\n    key: system\n    ticks: 1s",
    )

    findings = parse(text).spec.streams["findings"]

    assert (findings.carries, findings.key, findings.ticks) == (("AnomalyDetected",), "system", timedelta(seconds=1))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "nothing"),
        ("# only a comment", "nothing"),
        ("[1, 2]", "list"),
        ("just text", "str"),
        ("a: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system"),
        ("a: !secret x", "the tag !secret"),
        ("? [1]\n: 2", "a list or a mapping as a key"),
        ("on: 1", "'on' as a key"),
        ("a: &x [*x]", "an alias of something that contains it"),
        ("a: &x {<<: *x}", "a mapping merged into itself"),
        ("a: {<<: 3}", "something else after <<"),
        ("a: !!int seven", "'seven'"),
    ],
)
def test_what_is_no_plain_document_is_refused(text: str, found: str) -> None:
    assert _defects(text)[0].found == found


@pytest.mark.parametrize(
    ("text", "line"), [("a: [", 1), ("a: 1\n b: 2", 2), ("a: 1\n---\nb: 2", 2), ("a: *b", 1), ("a: x\nb: \x07", 2)]
)
def test_broken_syntax_is_refused_near_its_line(text: str, line: int) -> None:
    assert abs(_only(text).line - line) <= 1


def test_a_short_text_cannot_fill_the_memory_by_aliases_of_aliases() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    assert _only("\n".join(lines)).remedy == "look for aliases of aliases"


def test_what_nests_too_deeply_is_refused() -> None:
    assert _only("[" * 5000 + "]" * 5000).found == "values nested too deeply to read"


def test_what_looks_like_a_date_stays_as_it_was_written() -> None:
    text = changed("name: tiny", "name: tiny\ndescription: 2026-11-22")

    assert parse(text).spec.description == "2026-11-22"


@given(st.text(max_size=80) | st.lists(st.sampled_from(TEXT.splitlines()), max_size=25).map("\n".join))
def test_any_text_is_either_parsed_or_refused_with_defects(text: str) -> None:
    try:
        parse(text)
    except BrokenTopologyError as refusal:
        assert refusal.defects  # noqa: PT017  (either answer is fine, so there is nothing to expect)
