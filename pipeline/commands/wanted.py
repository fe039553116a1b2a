"""Which events of a stream ``aiops tap --where`` asks for: by type, or by a condition on what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from pipeline.engine.record import Record
from topology.condition import Condition, ConditionError, Test
from topology.errors import BadInputError, UsageError
from topology.event import Payload
from topology.graph import Stream
from topology.payloads import TickPassed
from topology.registry import registered

Wanted = Callable[[Record], bool]

_TYPES = re.compile(r"[a-z0-9.*?_-]+")


def wanted(where: str | None, stream: Stream) -> Wanted:
    """What is asked for; without ``where`` everything but ticks.

    Raises:
        UsageError: no event type is called so, or the condition fits nothing that the stream carries.
    """
    if where is None:
        return lambda record: record.event_type != TickPassed.event_type
    return wanted_of(where, stream.carries)


def wanted_of(where: str, carried: Iterable[type[Payload]]) -> Wanted:
    """What is asked for of streams that carry these payloads; see :func:`wanted`."""
    if not _TYPES.fullmatch(where):
        return _where_it_holds(where, carried)
    known = [payload.event_type for payload in registered()]
    if not any(fnmatchcase(event_type, where) for event_type in known):
        msg = f"found --where {where!r}, expected one of {', '.join(known)}, a part with *, or a condition"
        raise UsageError(msg)
    return lambda record: fnmatchcase(record.event_type, where)


def _where_it_holds(text: str, carried: Iterable[type[Payload]]) -> Wanted:
    tests: dict[str, Test] = {}
    refusal: ConditionError | None = None
    try:
        condition = Condition.parse(text)
        for payload in sorted(carried, key=lambda each: each.event_type):
            try:
                tests[payload.event_type] = condition.for_payload(payload)
            except ConditionError as error:  # of several types only some have the field
                refusal = error if refusal is None or error.remedy.startswith("did you mean") else refusal
    except ConditionError as error:
        refusal = error
    if refusal is not None and not tests:
        msg = f"--where: {refusal}"
        raise UsageError(msg) from refusal

    def holds(record: Record) -> bool:
        test = tests.get(record.event_type)
        try:
            return test is not None and test(record.event)
        except BadInputError:
            return True  # it is on the stream, and somebody should know

    return holds
