"""The knowledge graph's nodes and edges."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from tables.embedding import embed
from tables.knowledge import (
    ENDS,
    Embedding,
    Experience,
    Node,
    Pattern,
    PatternRevision,
    Problem,
    Relation,
    Solution,
    Step,
)
from topology.payloads.healing import ActionRequest

AT = datetime(2026, 11, 22, tzinfo=UTC)


def test_a_problem_is_searched_by_all_it_says() -> None:
    problem = Problem(fingerprint="fp:v1:0", title="Ledger crashed", error_patterns=("exited with status 139",))
    assert problem.text == "Ledger crashed\nexited with status 139"


def test_a_solution_becomes_requests_for_the_service_that_is_affected() -> None:
    solution = Solution(
        id="restart-both",
        title="Restart it and its store",
        steps=(
            Step(executor="process", operation="restart"),
            Step(executor="process", operation="restart", target="ledger-store", parameters={"grace_s": 1}),
        ),
    )
    assert solution.requests_for("ledger") == (
        ActionRequest(executor="process", operation="restart", target="ledger"),
        ActionRequest(executor="process", operation="restart", target="ledger-store", parameters={"grace_s": 1}),
    )


@pytest.mark.parametrize("field", ["cost", "risk", "blast_radius"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_costs_and_risks_are_shares(field: str, value: float) -> None:
    step = {"executor": "process", "operation": "restart"}
    with pytest.raises(ValidationError, match=field):
        Solution.model_validate({"id": "s", "title": "t", "steps": [step], field: value})


def test_a_solution_without_a_step_is_none() -> None:
    with pytest.raises(ValidationError, match="steps"):
        Solution(id="s", title="t", steps=())


@pytest.mark.parametrize("kind", list(ENDS))
def test_each_kind_of_relation_joins_what_it_is_made_for_and_nothing_else(kind: Any) -> None:
    source, target = ENDS[kind]
    Relation(kind=kind, source=Node(kind=source, id="a"), target=Node(kind=target, id="b"))
    with pytest.raises(ValidationError, match=f"{kind} leads from {source} to {target}, found .* to agent"):
        Relation(kind=kind, source=Node(kind=source, id="a"), target=Node(kind="agent", id="b"))


def test_a_patterns_history_leads_to_its_version() -> None:
    first, second = (PatternRevision(version=n, at=AT, matches=4, right=3) for n in (1, 2))
    assert Pattern(id="p", title="t", rule={}, version=3, history=(first, second)).version == 3
    for history in ((second, first), (first, first)):
        with pytest.raises(ValidationError, match="expected them rising"):
            Pattern(id="p", title="t", rule={}, version=3, history=history)
    with pytest.raises(ValidationError, match="below it"):
        Pattern(id="p", title="t", rule={}, version=2, history=(first, second))


def test_a_pattern_is_not_right_more_often_than_it_matches() -> None:
    with pytest.raises(ValidationError, match="found 5 right of 4"):
        PatternRevision(version=1, at=AT, matches=4, right=5)


def test_an_experience_knows_its_time_zone() -> None:
    arguments = {"id": UUID(int=1), "problem": "p", "solution": "s", "target": "t", "succeeded": True}
    assert Experience.model_validate({**arguments, "at": AT}).succeeded
    with pytest.raises(ValidationError, match="timezone"):
        Experience.model_validate({**arguments, "at": AT.replace(tzinfo=None)})


def test_a_vector_has_the_width_of_the_store_and_names_its_provider() -> None:
    assert Embedding(provider="hashed-1536:v1", vector=tuple(embed("x"))).provider
    with pytest.raises(ValidationError):
        Embedding(provider="hashed-1536:v1", vector=(1.0,))


def test_knowledge_survives_json_and_never_changes() -> None:
    problem = Problem(fingerprint="fp:v1:0", title="t", context={"system": "ledger", "tags": ["a"]})
    assert Problem.model_validate_json(problem.model_dump_json()) == problem
    with pytest.raises(ValidationError, match="frozen"):
        problem.title = "other"  # type: ignore[misc]  # that it is refused is the point
