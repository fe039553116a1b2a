"""Event types by name: which payload class an event type has, and how old versions become new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import ValidationError

from topology.errors import InvalidEventError, UnknownEventTypeError
from topology.event import Payload

P = TypeVar("P", bound=Payload)
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

_payloads: dict[str, type[Payload]] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}
_registrations = 0


def event_type(name: str) -> Callable[[type[P]], type[P]]:
    """Register a payload class under a dotted event type name, for example ``metric.sampled``."""

    def register(payload_class: type[P]) -> type[P]:
        known = _payloads.get(name)
        if known is not None and known.__qualname__ != payload_class.__qualname__:
            msg = f"event type {name!r} is {known.__qualname__} already; {payload_class.__qualname__} needs a name of its own"
            raise ValueError(msg)
        global _registrations
        payload_class.event_type = name
        _payloads[name] = payload_class
        _registrations += 1
        return payload_class

    return register


def upcaster(name: str, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Register how a payload of ``from_version`` becomes one of ``from_version + 1``."""

    def register(upcast: Upcaster) -> Upcaster:
        _upcasters[name, from_version] = upcast
        return upcast

    return register


def payload_class(name: str) -> type[Payload]:
    """The class of an event type.

    Raises:
        UnknownEventTypeError: no such type is registered.
    """
    found = _payloads.get(name)
    if found is None:
        msg = f"found event type {name!r}, expected one of {', '.join(sorted(_payloads))}"
        raise UnknownEventTypeError(msg, field="event_type")
    return found


def registrations() -> int:
    """How many payload classes have been registered; changes whenever :func:`registered` may."""
    return _registrations


def registered() -> Iterable[type[Payload]]:
    """Every payload class, by event type."""
    return [_payloads[name] for name in sorted(_payloads)]


def parse_payload(name: str, version: int, data: dict[str, Any]) -> Payload:
    """Turn JSON data of any known version into the payload of today.

    Raises:
        UnknownEventTypeError: the type, or this version of it, is unknown.
        InvalidEventError: the data breaks the schema; the message names each field.
    """
    target = _payloads.get(name) or payload_class(name)
    if not 1 <= version <= target.version:
        msg = (
            f"found version {version} of {name!r}, expected 1 to {target.version}; a newer release may have written it"
        )
        raise UnknownEventTypeError(msg, field="metadata.schema_version")
    for older in range(version, target.version):
        upcast = _upcasters.get((name, older))
        if upcast is None:
            msg = f"no upcaster leads from version {older} of {name!r} to {older + 1}"
            raise UnknownEventTypeError(msg, field="metadata.schema_version")
        data = _read_by(upcast, dict(data))
    # What model_validate() does; called once per event, so the way there counts.
    payload: Payload = _read_by(target.__pydantic_validator__.validate_python, data)
    return payload


def _read_by(reader: Callable[[dict[str, Any]], Any], data: dict[str, Any]) -> Any:
    """What an upcaster or a payload's validators make of data; whatever they raise, equal data would raise it again."""
    try:
        return reader(data)
    except ValidationError as error:
        raise InvalidEventError(_explain(error), field="payload") from error
    except Exception as error:
        msg = f"found what it cannot be read from ({type(error).__name__}: {error})"
        raise InvalidEventError(msg, field="payload") from error


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)
    shown = "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']} (found {e['input']!r:.80})" for e in first[:5]
    )
    return shown if len(first) <= 5 else f"{shown}; and {len(first) - 5} more"
