"""Whatever somebody writes into a topology, they get an answer about it: it runs, or here is why not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.topology.loop_of_three import AGENTS, TEXT, load
from topology.check import check
from topology.defects import BrokenTopologyError, Defect
from topology.describe import describe
from topology.parse import parse
from topology.picture import mermaid
from topology.resolve import resolve

WORDS = (
    *(
        "intake",
        "findings",
        "incidents",
        "nowhere",
        "notice",
        "gather",
        "[]",
        "{}",
        "''",
        "null",
        "7",
        "[intake, findings]",
    ),
    *(
        "MetricSampled",
        "AnomalyDetected",
        "IncidentOpened",
        "TickPassed",
        "Nothing",
        "service",
        "system",
        "1s",
        *AGENTS,
    ),
)


@st.composite
def tampered(draw: st.DrawFn) -> str:
    """The tiny topology with some of its words replaced, and some of its lines lost or doubled."""
    text = TEXT
    for _ in range(draw(st.integers(0, 3))):
        old, new = draw(st.sampled_from(WORDS)), draw(st.sampled_from(WORDS))
        text = text.replace(old, new, 1)
    lines = text.splitlines()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + 1] = draw(st.sampled_from(([], [lines[at]] * 2)))
    return "\n".join(lines)


def _defects(text: str) -> tuple[Defect, ...]:
    try:
        return check(parse(text), load)
    except BrokenTopologyError as refusal:
        return refusal.defects


@given(tampered())
@settings(max_examples=300)
def test_a_topology_is_resolved_exactly_when_no_error_is_found(text: str) -> None:
    errors = [defect for defect in _defects(text) if defect.severity == "error"]
    try:
        topology = resolve(parse(text), load)
    except BrokenTopologyError as refusal:
        assert [str(defect) for defect in refusal.defects if defect.severity == "error"] == list(map(str, errors))  # noqa: PT017
    else:
        assert errors == []
        assert describe(topology)
        assert mermaid(topology)


@given(tampered())
def test_every_defect_has_a_line_what_was_found_what_was_expected_and_a_way_out(text: str) -> None:
    defects = _defects(text)

    assert all(1 <= d.line <= text.count("\n") + 2 and d.found and d.expected and d.remedy for d in defects)
    assert [d.line for d in defects] == sorted(d.line for d in defects)


@given(tampered())
def test_asking_twice_gives_the_same_answer(text: str) -> None:
    assert _defects(text) == _defects(text)
