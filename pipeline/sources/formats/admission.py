"""Which events may come in from outside: signals, and nothing that only our own stages may conclude.

An approval or a plan that anybody could post would be an order to the loop.
"""

from __future__ import annotations

from pipeline.sources.formats.body import MalformedBodyError, show
from topology.errors import UnknownEventTypeError
from topology.payloads.signals import Signal
from topology.registry import registered


def admitted_types() -> dict[str, type[Signal]]:
    """The payload classes that outsiders may send, by event type."""
    return {payload.event_type: payload for payload in registered() if issubclass(payload, Signal)}


def check_admitted(event_type: object, *, field: str) -> str:
    """The event type, if outsiders may send it.

    Raises:
        MalformedBodyError: it is not text.
        UnknownEventTypeError: it is unknown, or not a signal.
    """
    if not isinstance(event_type, str):
        raise MalformedBodyError("nothing" if event_type is None else show(event_type), "an event type", field=field)
    admitted = admitted_types()
    if event_type not in admitted:
        msg = f"found {show(event_type)}, expected one of {', '.join(sorted(admitted))}"
        raise UnknownEventTypeError(msg, field=field)
    return event_type
