"""Durations as people write them in a topology: ``500ms``, ``10s``, ``15m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(text: Any) -> Any:
    """The ``timedelta`` of a written duration; anything but text is left to pydantic."""
    if not isinstance(text, str):
        return text
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        msg = f"found {text!r}, expected a number and a unit ({', '.join(_UNITS)}), such as 10s"
        raise ValueError(msg)
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def show_duration(duration: timedelta) -> str:
    """The shortest way to write a duration that reads back as the same one."""
    seconds = duration.total_seconds()
    for unit in ("d", "h", "m", "s"):
        amount = seconds / _UNITS[unit]
        if amount >= 1 and amount == int(amount):
            return f"{int(amount)}{unit}"
    return f"{seconds * 1000:g}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$", "examples": ["10s", "24h"]}),
]
