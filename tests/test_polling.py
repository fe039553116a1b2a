"""The two functions that every waiting test stands on."""

from __future__ import annotations

import pytest

from tests.polling import eventually, wait_until


async def test_eventually_returns_the_first_true_answer() -> None:
    answers = iter([0, 0, 7, 8])

    assert await eventually(lambda: next(answers), saying="an answer comes") == 7


async def test_eventually_awaits_an_asynchronous_predicate() -> None:
    answers = iter([[], ["incident"]])

    async def open_incidents() -> list[str]:
        return next(answers)

    assert await eventually(open_incidents, saying="an incident is open") == ["incident"]


async def test_eventually_says_what_was_expected_and_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: an incident is open\. Seen last: \[\]"):
        await eventually(list[str], saying="an incident is open", within_s=0.05)


async def test_eventually_shows_what_the_test_names_instead_of_the_bare_answer() -> None:
    with pytest.raises(AssertionError, match=r"Seen last: \['OPEN', 'OPEN'\]"):
        await eventually(lambda: False, saying="it closes", within_s=0, seen=lambda: ["OPEN", "OPEN"])


async def test_an_error_in_the_predicate_is_not_swallowed() -> None:
    def broken() -> bool:
        message = "no such table"
        raise LookupError(message)

    with pytest.raises(LookupError, match="no such table"):
        await eventually(broken, saying="the table answers")


def test_wait_until_returns_the_first_true_answer() -> None:
    answers = iter(["", "up"])

    assert wait_until(lambda: next(answers), saying="the server is up") == "up"


def test_wait_until_asks_once_more_at_the_end() -> None:
    asked = []

    with pytest.raises(AssertionError, match="the server is up"):
        wait_until(lambda: asked.append("again"), saying="the server is up", within_s=0.02)

    assert len(asked) >= 2
