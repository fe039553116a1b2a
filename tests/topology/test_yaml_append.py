"""An item is put at the end of a list of a YAML text, and nothing else changes."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.loop_of_three import TEXT
from topology.errors import UsageError
from topology.yaml_append import with_item

ITEM = "- id: new\n  agent: a:B"


def test_it_stands_after_the_last_item_and_before_what_is_said_of_the_next_key() -> None:
    text = "stages:\n  # first\n  - id: a   # one\n    config:\n      x: [1,\n          2]\n\n# What there is to mend.\nsystems: {}\n"

    assert with_item(text, "stages", ITEM) == (
        "stages:\n  # first\n  - id: a   # one\n    config:\n      x: [1,\n          2]\n"
        "  - id: new\n    agent: a:B\n\n# What there is to mend.\nsystems: {}\n"
    )


def test_a_list_may_be_the_last_thing_and_its_line_without_an_end() -> None:
    assert with_item("stages:\n- id: a", "stages", ITEM) == "stages:\n- id: a\n- id: new\n  agent: a:B\n"


@pytest.mark.parametrize("text", ["streams: {}", "stages: []", "stages: [{id: a}]", "stages:\n", "- stages", ""])
def test_a_list_that_is_not_there_or_in_brackets_is_left_to_people(text: str) -> None:
    with pytest.raises(UsageError, match="no list under `stages` that is written with dashes"):
        with_item(text, "stages", ITEM)


@given(st.sampled_from(["stages", "solutions"]), st.integers(1, 3))
def test_everything_else_stays_as_it_is(key: str, times: int) -> None:
    text = TEXT
    for _ in range(times):
        text = with_item(text, key, ITEM)

    before, after = yaml.safe_load(TEXT), yaml.safe_load(text)
    assert after.pop(key) == before.pop(key) + [{"id": "new", "agent": "a:B"}] * times
    assert after == before
    assert [line for line in TEXT.splitlines() if line not in text.splitlines()] == []
