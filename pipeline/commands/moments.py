"""Moments as people give them to verbs: a time, a duration, or an offset."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta

from pipeline.engine.record import BEGINNING, SEQ_MAX, Offset
from pipeline.tap import ago
from topology.durations import parse_duration
from topology.errors import UsageError
from topology.moments import to_us

_OFFSET = re.compile(r"\d{5,20}-\d{1,20}")


def just_before(option: str, text: str, *, beginning: Offset | None = None) -> Offset:
    """The last offset before what ``text`` says; a time without a zone is one of this machine.

    Args:
        option: named in the refusal.
        beginning: what a duration is counted from; by default it is so long ago.

    Raises:
        UsageError: it is none of the three.
    """
    if _OFFSET.fullmatch(text):
        offset = Offset.parse(text)
        return Offset(offset.ms, offset.seq - 1) if offset.seq else _before_ms(offset.ms)
    with suppress(ValueError):
        duration: timedelta = parse_duration(text)
        return _before_ms(
            ago(duration).ms if beginning is None else beginning.ms + round(duration.total_seconds() * 1000)
        )
    try:
        return _before_ms(to_us(datetime.fromisoformat(text).astimezone()) // 1000)
    except (OverflowError, ValueError) as error:
        msg = (
            f"found {option} {text!r}, expected a time such as 2026-03-01T12:00 or 2026-03-01T12:00:00Z, a duration such "
            f"as 90m, or an offset such as 1772366400000-0"
        )
        raise UsageError(msg) from error


def _before_ms(ms: int) -> Offset:
    return Offset(ms - 1, SEQ_MAX) if ms > 0 else BEGINNING
