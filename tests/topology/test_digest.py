"""Two declarations have one digest when they mean the same."""

from __future__ import annotations

import pytest

from topology.digest import topology_digest
from topology.parse import parse

TEXT = """
name: small
streams:
  signals: {carries: [MetricSampled], retain: 24h}
stages:
  - {id: one, agent: "m:A", consumes: signals}
"""


def digest(text: str) -> str:
    return topology_digest(parse(text).spec)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: small", "# a comment\nname: 'small'"),
        ("retain: 24h", "retain: 1d"),
        ("carries: [MetricSampled], retain: 24h", "retain: 24h, carries: [MetricSampled], partitions: 4"),
        ("consumes: signals", "consumes: [signals]"),
    ],
)
def test_what_means_the_same_has_the_same_digest(before: str, after: str) -> None:
    assert before in TEXT
    assert digest(TEXT.replace(before, after)) == digest(TEXT)


@pytest.mark.parametrize(
    ("before", "after"),
    [("name: small", "name: large"), ("24h", "25h"), ("m:A", "m:B"), ("id: one", "id: one, config: {limit: 1}")],
)
def test_what_means_something_else_has_another(before: str, after: str) -> None:
    assert before in TEXT
    assert digest(TEXT.replace(before, after)) != digest(TEXT)
