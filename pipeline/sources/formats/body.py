"""A body that came from outside, as JSON: what every format checks before it looks for events.

The limits are what one request may cost.  They are checked in the order of their price: bytes counted first, then
parsed, then measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson

from pipeline.sources.identity import new_id
from topology.errors import BadInputError

ITEMS_MAX = 10_000
"""Events in one body.  A sender with more sends several bodies."""
_CONTAINERS_MAX = 20 * ITEMS_MAX
"""Opening brackets and braces in one body; an item of a known format has three to six."""
_DEPTH_MAX = 32
"""Of nesting.  Beyond some hundred levels JSON writers and ``repr`` give up, and no known format needs ten."""

T = TypeVar("T")


class MalformedBodyError(BadInputError):
    """A body breaks its format.

    Attributes:
        found, expected: the two halves of the message, for an answer that a program reads.
    """

    def __init__(self, found: str, expected: str, *, field: str = "") -> None:
        super().__init__(f"found {found}, expected {expected}", field=field)
        self.found = found
        self.expected = expected


class TooManyItemsError(MalformedBodyError):
    """A body has more items than one request may have."""


@dataclass(frozen=True, slots=True)
class Reception:
    """The circumstances a payload came in under; with them a format is a pure function.

    Attributes:
        at: when it came in, UTC; the event time of what has none of its own.
        source: the ``source`` of events whose format does not say one.
        new_id: makes the ids of events that have no identity of their own.
    """

    at: datetime
    source: str = "door"
    new_id: Callable[[], UUID] = field(default=new_id)


def parse_json(raw: bytes) -> Any:
    """The JSON value of a body.

    Raises:
        MalformedBodyError: not JSON (NaN, Infinity and lone surrogates are not), or nested too deeply.
        TooManyItemsError: it holds more objects and lists than any body within the limits can.
    """
    containers = raw.count(b"{") + raw.count(b"[")
    if containers > _CONTAINERS_MAX:
        raise TooManyItemsError(f"{containers} objects and lists", f"at most {ITEMS_MAX} items in one body")
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"no JSON ({error})" if raw else "an empty body", "a JSON document") from error
    if containers > _DEPTH_MAX:
        _check_depth(parsed)
    return parsed


def read_each(items: list[Any], read_one: Callable[[Any], T], *, field: str = "") -> list[T]:
    """What each item of a body's list says.

    Args:
        field: where in the body the list is; it is in front of the field that a refusal of an item names.

    Raises:
        TooManyItemsError: there are more than :data:`ITEMS_MAX`.
        BadInputError: of the first bad item.
    """
    if len(items) > ITEMS_MAX:
        raise TooManyItemsError(f"{len(items)} items", f"at most {ITEMS_MAX} in one body", field=field)
    read = []
    for index, item in enumerate(items):
        with naming(f"{field}[{index}]"):
            read.append(read_one(item))
    return read


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put ``place`` (such as ``alerts[3]``) in front of the field that a refusal inside names."""
    try:
        yield
    except TooManyItemsError:
        raise
    except BadInputError as error:
        field = f"{place}.{error.field}" if error.field else place
        raise MalformedBodyError(*_halves(error), field=field) from error


def expectation(error: BadInputError) -> tuple[str, str]:
    """What was found and what was expected, of any refusal of input."""
    return _halves(error)


def get(data: Mapping[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    """A field of an object; ``default`` when it is absent or null, and one was given.

    Raises:
        MalformedBodyError: it is absent without a default, or of another kind.
    """
    found = data.get(name)
    if found is None and default is not None:
        return default
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise MalformedBodyError(show(found) if name in data else "nothing", _kind_name(kind), field=name)
    return found


def texts(data: Mapping[str, Any], name: str, *, required: bool = False) -> dict[str, str]:
    """A field of an object that maps names to text, such as labels; empty when it may be and is absent.

    Raises:
        MalformedBodyError: it is absent but required, no object, or has a value that is not text.
    """
    found = get(data, name, dict, None if required else {})
    for key, value in found.items():
        if not isinstance(value, str):
            raise MalformedBodyError(show(value), "text", field=f"{name}.{key}")
    return found


def moment(text: object, *, field: str) -> datetime:
    """An RFC 3339 time, to the microsecond (more digits are cut), as UTC.

    Raises:
        MalformedBodyError: it is not one, or has no time zone.
    """
    expected = "an RFC 3339 date and time with a time zone, such as 2026-01-31T09:30:00Z"
    if not isinstance(text, str):
        raise MalformedBodyError("nothing" if text is None else show(text), expected, field=field)
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is not None:
            return parsed.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # a valid date just outside what can be counted overflows
        raise MalformedBodyError(show(text), expected, field=field) from error
    raise MalformedBodyError(show(text), expected, field=field)


def show(value: object) -> str:
    """A value as a refusal shows it: short."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _halves(error: BadInputError) -> tuple[str, str]:
    if isinstance(error, MalformedBodyError):
        return error.found, error.expected
    message = str(error).removeprefix(f"{error.field}: ")
    found, _, expected = message.partition(", expected ")
    return found.removeprefix("found "), expected or "what its schema says"


def _kind_name(kind: type) -> str:
    return {str: "text", dict: "an object", list: "a list", int: "a whole number"}.get(kind, kind.__name__)


def _check_depth(parsed: object) -> None:
    level = [parsed]
    for _ in range(_DEPTH_MAX):
        inner: list[object] = []
        for container in level:
            values = container.values() if isinstance(container, dict) else container
            inner.extend(v for v in values if type(v) in (dict, list))  # type: ignore[attr-defined]
        if not inner:
            return
        level = inner
    raise MalformedBodyError(f"more than {_DEPTH_MAX} levels of nesting", f"at most {_DEPTH_MAX}")
