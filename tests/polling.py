"""Waiting for something to become true, without sleeping and hoping.

`eventually` is for asynchronous tests, `wait_until` for the others. Both ask again and again until the predicate's answer
is true, return that answer, and fail with what they saw last.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Seen = TypeVar("Seen")

_PAUSE_S = 0.01
# Asking a real server a hundred times a second for ten seconds slows down what is waited for.
_PAUSE_S_MAX = 0.2


@overload
async def eventually(
    predicate: Callable[[], Awaitable[Seen]], *, saying: str, within_s: float = 10, seen: object = None
) -> Seen: ...
@overload
async def eventually(
    predicate: Callable[[], Seen], *, saying: str, within_s: float = 10, seen: object = None
) -> Seen: ...
async def eventually(
    predicate: Callable[[], object], *, saying: str, within_s: float = 10, seen: object = None
) -> object:
    """Ask until the answer is true, and return it.

    Args:
        predicate: a plain or an asynchronous function without arguments.
        saying: what is expected, as the failure will say it: "the incident is open".
        within_s: how long to ask. The predicate is asked at least twice, at the beginning and at the end.
        seen: shown when it fails, or a function that gives what to show; without it, the predicate's last answer.

    Raises:
        AssertionError: the answer was never true.
    """
    until = time.monotonic() + within_s
    pause_s = _PAUSE_S
    while True:
        last_try = time.monotonic() >= until
        asked = predicate()
        answer: object = await asked if inspect.isawaitable(asked) else asked
        if answer:
            return answer
        if last_try:
            raise AssertionError(_failure(saying, within_s, answer, seen))
        await asyncio.sleep(min(pause_s, max(0.0, until - time.monotonic())))
        pause_s = min(pause_s * 1.5, _PAUSE_S_MAX)


def wait_until(predicate: Callable[[], Seen], *, saying: str, within_s: float = 10, seen: object = None) -> Seen:
    """Ask until the answer is true, and return it: `eventually` for tests without an event loop."""
    until = time.monotonic() + within_s
    pause_s = _PAUSE_S
    while True:
        last_try = time.monotonic() >= until
        answer = predicate()
        if answer:
            return answer
        if last_try:
            raise AssertionError(_failure(saying, within_s, answer, seen))
        time.sleep(min(pause_s, max(0.0, until - time.monotonic())))
        pause_s = min(pause_s * 1.5, _PAUSE_S_MAX)


def _failure(saying: str, within_s: float, answer: object, seen: object) -> str:
    shown = seen() if callable(seen) else seen
    return f"not within {within_s:g} s: {saying}. Seen last: {answer if shown is None else shown!r}"
