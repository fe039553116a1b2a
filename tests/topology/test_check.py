"""What does not fit together is told at once: both ends of a wrong edge, its line, and the way out."""

from __future__ import annotations

import pytest

from tests.topology.loop_of_three import TEXT, changed, load
from topology.check import check
from topology.defects import BrokenTopologyError, Defect, raise_if_broken
from topology.parse import parse


def _check(text: str, read_outside: tuple[str, ...] | None = None) -> tuple[Defect, ...]:
    return check(parse(text, "tiny.yaml"), load, read_outside=read_outside)


def _only(text: str) -> Defect:
    (defect,) = _check(text)
    return defect


def test_what_fits_has_no_defects() -> None:
    assert _check(TEXT) == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "carries: [AnomalyDetected]",
            "carries: [AnomalyDetected, AnomalyDetektiert]",
            "tiny.yaml:4: error: streams.findings.carries[1]: found 'AnomalyDetektiert' on stream 'findings', expected "
            "the name of a registered payload class; did you mean AnomalyDetected?",
        ),
        (
            "carries: [AnomalyDetected]",
            "carries: [anomaly.detected]",
            "tiny.yaml:4: error: streams.findings.carries[0]: found 'anomaly.detected' on stream 'findings', expected "
            "the name of a registered payload class; write AnomalyDetected",
        ),
        (
            "consumes: intake",
            "consumes: intakes",
            "tiny.yaml:9: error: stages[0].consumes[0]: found stage 'notice' reads 'intakes', expected a declared stream "
            "(findings, incidents, intake); did you mean intake?",
        ),
        (
            "emits: findings",
            "emits: nowhere-at-all",
            "tiny.yaml:10: error: stages[0].emits[0]: found stage 'notice' writes to 'nowhere-at-all', expected a declared "
            "stream (findings, incidents, intake); declare 'nowhere-at-all' under `streams`, or correct the name",
        ),
        (
            "consumes: intake",
            "consumes: [intake, intake]",
            "tiny.yaml:9: error: stages[0].consumes[1]: found stage 'notice' reads 'intake' a second time, expected every "
            "stream once; remove one of them",
        ),
        (
            "carries: [MetricSampled, LogWritten]",
            "carries: [MetricSampled]",
            "tiny.yaml:9: error: stages[0].consumes: found stage 'notice' (tiny:Notice) consuming LogWritten, and reading "
            "only 'intake', expected an input stream that carries LogWritten; add LogWritten to what 'intake' carries",
        ),
        (
            "    emits: incidents",
            "    emits: []",
            "tiny.yaml:15: error: stages[1].emits: found stage 'gather' (tiny:Gather) emitting IncidentOpened, and writing "
            "to no stream, expected an output stream that carries IncidentOpened; let it also emit to 'incidents'",
        ),
        (
            ", ticks: 1s",
            "",
            "tiny.yaml:14: error: stages[1].consumes: found stage 'gather' waiting for ticks, and none on its input "
            "'findings', expected an input stream that has ticks; give 'findings' `ticks: 1s`",
        ),
        (
            "carries: [MetricSampled, LogWritten], key: service",
            "carries: [MetricSampled, LogWritten], key: metric",
            "tiny.yaml:3: error: streams.intake.key: found stream 'intake' keyed by 'metric', a field that LogWritten does "
            "not have, expected a field of every payload the stream carries; key it by one of: labels, service, system; or "
            "carry LogWritten on another stream",
        ),
        (
            "agent: tiny:Notice",
            "agent: gone:Notice",
            "tiny.yaml:8: error: stages[0].agent: found stage 'notice' with the agent 'gone:Notice', which cannot be "
            "loaded (No module named 'gone'), expected module:Class of a subclass of topology.Agent that can be imported; "
            "correct the name, or install what it imports",
        ),
        (
            "agent: tiny:Notice",
            "agent: tiny:Other",
            "tiny.yaml:8: error: stages[0].agent: found stage 'notice' with the agent 'tiny:Other', which is "
            "<class 'dict'>, expected module:Class of a subclass of topology.Agent that can be imported; "
            "correct the name, or install what it imports",
        ),
        (
            "{value_max: 3}",
            "{value_max: much}",
            "tiny.yaml:11: error: stages[0].config.value_max: found 'much', expected a valid number, unable to parse "
            "string as a number; change it",
        ),
        (
            "{value_max: 3}",
            "{value_maximum: 3}",
            "tiny.yaml:11: error: stages[0].config.value_maximum: found an unknown key, expected one of systems, "
            "value_max; did you mean value_max?",
        ),
        (
            "id: gather",
            "id: notice",
            "tiny.yaml:12: error: stages[1].id: found stage id 'notice' a second time (first in line 7), expected a name "
            "that is used once, because it names the state and offsets of one stage; rename one of them",
        ),
        (
            "    emits: incidents",
            "    emits: incidents\n    aliases: [collect, notice]",
            "tiny.yaml:16: error: stages[1].aliases[1]: found alias 'notice' a second time (first in line 7), expected a "
            "name that is used once, because it names the state and offsets of one stage; rename one of them",
        ),
        (
            "operation: restart}",
            "operation: restart}\n  - {id: restart, title: Again, executor: process, operation: restart}",
            "tiny.yaml:20: error: solutions[1].id: found solution 'restart' a second time (first in line 19), expected a "
            "name that is used once, because experiences are kept under it; rename one of them",
        ),
        (
            "depends_on: [store]",
            "depends_on: [stores]",
            "tiny.yaml:17: warning: systems.shop.services.web.depends_on[0]: found service 'web' depending on 'stores', "
            "expected a service of a declared system; did you mean store?",
        ),
        (
            "store: {}}}",
            "store: {}}}\n  other: {services: {store: {}}}",
            "tiny.yaml:18: error: systems.other.services.store: found service 'store' of system 'other', which is one of "
            "'shop' already, expected every service in one system; take it out of one of them",
        ),
        (
            "operation: restart}",
            "operation: restart, parameters: {headers: {api_key: abc}}}",
            "tiny.yaml:19: error: solutions[0].parameters.headers.api_key: found what looks like a secret, expected no "
            "secret in a topology, which is shared and kept in version control; give it to the executor or the source by "
            "a setting",
        ),
    ],
)
def test_each_defect_names_its_ends_its_line_and_the_way_out(old: str, new: str, message: str) -> None:
    assert str(_only(changed(old, new))) == message


def test_inputs_of_one_stage_must_be_co_partitioned() -> None:
    text = changed("consumes: [findings]", "consumes: [findings, more]")
    text = changed("stages:", "  more: {carries: [AnomalyDetected], key: system, partitions: 8}\nstages:", text)

    defect = _only(text)

    assert (
        defect.found
        == "stage 'gather' reads 'findings' (4 partitions by 'system') and 'more' (8 partitions by 'system')"
    )
    assert defect.remedy == "give both the same number of partitions"


def test_inputs_of_one_stage_must_have_one_key() -> None:
    text = changed("consumes: [findings]", "consumes: [findings, more]")
    text = changed("stages:", "  more: {carries: [AnomalyDetected], key: kind}\nstages:", text)

    assert _only(text).remedy == "key both by the same field"


def test_a_type_with_two_ways_out_is_ambiguous() -> None:
    text = changed("    emits: findings", "    emits: [findings, more]")
    text = changed("stages:", "  more: {carries: [AnomalyDetected], key: system}\nstages:", text)

    assert _only(text).found == "stage 'notice' with 2 ways out for AnomalyDetected ('findings', 'more')"


def test_an_abstract_payload_is_no_event_type() -> None:
    assert _only(changed("tiny:Gather", "tiny:Vague")).found == (
        "agent tiny:Vague of stage 'gather' naming Finding, which is no event type"
    )


def test_edges_over_which_nothing_goes_are_warned_of() -> None:
    text = changed("consumes: [findings]", "consumes: [findings, incidents]")
    text = changed("    emits: incidents", "    emits: [incidents, findings]", text)

    assert [(defect.severity, defect.found) for defect in _check(text)] == [
        ("warning", "stage 'gather' reading 'incidents', which carries nothing it consumes"),
        ("warning", "stage 'gather' writing to 'findings', which carries nothing it emits"),
    ]


def test_a_stream_nobody_writes_is_warned_of_unless_a_source_does() -> None:
    text = changed("stages:", "  spare: {carries: [AnomalyDetected], key: system}\nstages:")

    assert _only(text).found == "stream 'spare', which no stage and no source writes"
    assert check(parse(text), load, written_outside=("intake", "spare")) == ()


def test_a_stream_nobody_reads_is_warned_of_when_the_sinks_are_known() -> None:
    (defect,) = _check(TEXT, read_outside=())

    assert defect.found == "stream 'incidents', which no stage and no sink reads"
    assert _check(TEXT, read_outside=("incidents",)) == ()


_ISLAND = """
  - {id: ponder, agent: "tiny:Ponder", consumes: island, emits: island-findings}
  - {id: echo, agent: "tiny:Collect", consumes: island-findings, emits: island}
systems:"""


def test_stages_that_hear_only_each_other_are_warned_of() -> None:
    text = changed("\nsystems:", _ISLAND)
    text = changed(
        "stages:",
        "  island: {carries: [IncidentOpened], key: system}\n"
        "  island-findings: {carries: [AnomalyDetected], key: system}\nstages:",
        text,
    )

    assert [(defect.severity, defect.line, defect.found) for defect in _check(text)] == [
        ("info", 18, "a loop without ticks: ponder -> [island-findings] -> echo -> [island] -> ponder"),
        ("warning", 18, "stage 'ponder' reading only 'island', and no path from a source leading there"),
        ("warning", 19, "stage 'echo' reading only 'island-findings', and no path from a source leading there"),
    ]


def test_a_loop_paced_by_ticks_is_fine() -> None:
    ponder = '\n  - {id: ponder, agent: "tiny:Ponder", consumes: incidents, emits: findings}\nsystems:'

    assert _check(changed("\nsystems:", ponder)) == ()


def test_everything_is_told_at_once_sorted_by_line() -> None:
    text = changed("id: gather", "id: notice", changed("consumes: intake", "consumes: intakes"))
    text = changed("operation: restart}", "operation: restart, parameters: {url: 'http://me:pw@host'}}", text)

    assert [defect.line for defect in _check(text)] == [9, 12, 19]


def test_only_errors_keep_a_topology_from_running() -> None:
    warnings = _check(TEXT, read_outside=())
    errors = _check(changed("id: gather", "id: notice"))

    raise_if_broken(warnings)
    with pytest.raises(BrokenTopologyError) as refusal:
        raise_if_broken([*errors, *warnings])
    assert len(refusal.value.defects) == 2
    assert str(refusal.value).count("\n") == 0


def test_what_depends_on_something_unknown_is_not_blamed_too() -> None:
    assert len(_check(changed("[MetricSampled, LogWritten]", "[MetricSampled, LogWriten]"))) == 1
