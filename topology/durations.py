"""Durations as people write them in a topology: ``500ms``, ``10s``, ``15m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from topology.moments import span_us

_UNITS_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PATTERN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")


def parse_duration(text: Any) -> Any:
    """The ``timedelta`` of a written duration; anything but text is left to pydantic.

    Raises:
        ValueError: the text is no duration, or one of more than a million days.
    """
    if not isinstance(text, str):
        return text
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        msg = f"found {text!r}, expected a number and a unit ({', '.join(_UNITS_US)}), such as 10s"
        raise ValueError(msg)
    microseconds = float(match[1]) * _UNITS_US[match[2]]
    if microseconds > 1_000_000 * _UNITS_US["d"]:
        msg = f"found {text!r}, expected at most a million days"
        raise ValueError(msg)
    return timedelta(microseconds=round(microseconds))


def show_duration(duration: timedelta) -> str:
    """A short way to write a duration that reads back as the same one."""
    microseconds = span_us(duration)
    for unit in ("d", "h", "m", "s", "ms"):
        if microseconds % _UNITS_US[unit] == 0 and (microseconds or unit == "s"):
            return f"{microseconds // _UNITS_US[unit]}{unit}"
    return f"{microseconds // 1_000}.{microseconds % 1_000:03}".rstrip("0") + "ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)$", "examples": ["10s", "24h"]}),
]
