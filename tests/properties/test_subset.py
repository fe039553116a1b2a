"""Whoever names only some of what is there is not contradicted, and is told of everything that is different."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from topology.subset import differences

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", ""])
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)


@st.composite
def parts(draw: st.DrawFn, data: Any) -> Any:
    """The data with some of its keys left out."""
    if isinstance(data, dict):
        return {key: draw(parts(value)) for key, value in data.items() if draw(st.booleans())}
    if isinstance(data, list):
        return [draw(parts(item)) for item in data]
    return data


@given(st.data(), DATA)
def test_what_is_there_contains_every_part_of_it(data: st.DataObject, there: Any) -> None:
    assert list(differences(there, data.draw(parts(there)))) == []


@given(DATA, DATA)
def test_what_contains_each_other_is_the_same(one: Any, other: Any) -> None:
    contained = not list(differences(one, other)) and not list(differences(other, one))

    assert contained == (repr(_sorted(one)) == repr(_sorted(other)))


def test_true_is_not_one_as_in_json() -> None:
    assert [str(each) for each in differences({"a": 1}, {"a": True})] == ["a: found 1, expected True"]
    assert list(differences({"a": 1.0}, {"a": 1})) == []


@given(DATA, DATA)
def test_every_difference_names_its_place(one: Any, other: Any) -> None:
    for difference in differences({"at": one}, {"at": other}):
        assert difference.path[0] == "at"
        assert difference.found != difference.expected


def _sorted(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _sorted(data[key]) for key in sorted(data)}
    return [_sorted(item) for item in data] if isinstance(data, list) else data
