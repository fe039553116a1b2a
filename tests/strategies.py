"""Hypothesis strategies for events, made from the payload models themselves.

`events()` gives any event of the vocabulary; `events(of=MetricSampled)` only that one; `payloads(MetricSampled)` its
payload, with single fields fixed by keyword: `payloads(MetricSampled, service=st.just("ledger"))`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from topology.event import Event, Payload
from topology.registry import registered

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound=Payload)

SERVICES = ("ledger", "ledger-store", "billing", "søk-tjeneste")
"""Few, so that events of one service meet."""

EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
LATEST = datetime(2035, 1, 1, tzinfo=UTC)

# JSON knows integers of any size, but readers do not: 53 bits are safe everywhere.
_INTEGERS_MAX = 2**53 - 1

_TEXTS = st.text(max_size=20)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_INTEGERS = st.integers(-_INTEGERS_MAX, _INTEGERS_MAX)


def moments(earliest: datetime = EARLIEST, latest: datetime = LATEST) -> st.SearchStrategy[datetime]:
    """UTC moments in whole microseconds."""
    return st.datetimes(
        earliest.replace(tzinfo=None), latest.replace(tzinfo=None), timezones=st.just(UTC), allow_imaginary=False
    )


def json_values(leaves_max: int = 5) -> st.SearchStrategy[Any]:
    """What JSON can say and give back unchanged."""
    leaves = st.none() | st.booleans() | _INTEGERS | _FLOATS | _TEXTS
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
        max_leaves=leaves_max,
    )


def models(model: type[M], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[M]:
    """Valid instances of a pydantic model; optional fields are sometimes left out."""
    required: dict[str, st.SearchStrategy[Any]] = dict(fixed)
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        if name not in fixed:
            (required if field.is_required() else optional)[name] = _field(name, field)
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: model(**values))


def payloads(of: type[P], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[P]:
    """Valid payloads of one event type."""
    return models(of, **fixed)


def events(
    of: type[P] | None = None, *, at: st.SearchStrategy[datetime] | None = None, **fixed: st.SearchStrategy[Any]
) -> st.SearchStrategy[Event[Any]]:
    """Events of one type, or of all; `at` gives their timestamps, `fixed` single fields of the payload."""
    classes: list[type[Payload]] = [of] if of is not None else vocabulary()
    maybe_id = st.none() | st.uuids()
    return st.builds(
        Event,
        id=st.uuids(),
        timestamp=at if at is not None else moments(),
        source=st.sampled_from(("host", "probes", "door", "detect-health")),
        payload=st.one_of([payloads(payload, **fixed) for payload in classes]),
        correlation_id=maybe_id,
        causation_id=maybe_id,
        metadata=st.dictionaries(st.sampled_from(("observed_at", "trace", "signature")), json_values(2), max_size=2),
    )


def vocabulary() -> list[type[Payload]]:
    """The product's own payload classes; those a test registers are left out."""
    return [payload for payload in registered() if payload.__module__.startswith("topology.payloads.")]


def _field(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    if name in ("service", "target") and field.annotation is str:
        return st.sampled_from(SERVICES)
    return _annotated(field.annotation, field.metadata)


def _annotated(annotation: Any, constraints: list[Any]) -> st.SearchStrategy[Any]:
    """Values of a type within its constraints (`Ge`, `Le`, `MinLen`, `MaxLen` ...)."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _annotated(inner, [*more, *constraints])
    limits = {
        name: getattr(constraint, name)
        for constraint in constraints
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length")
        if getattr(constraint, name, None) is not None
    }
    length = {"min_size": limits.get("min_length", 0)}
    if annotation is str:
        return st.text(**length, max_size=min(limits.get("max_length", 20), 20))
    if annotation in (int, float):
        return _numbers(annotation, limits)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        items = _annotated(arguments[0], [])
        return st.lists(items, **length, max_size=length["min_size"] + 2).map(tuple)
    return _unconstrained(annotation, origin, arguments)


def _numbers(kind: type[int] | type[float], limits: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if kind is int:
        return st.integers(
            -_INTEGERS_MAX if low is None else low + ("gt" in limits),
            _INTEGERS_MAX if high is None else high - ("lt" in limits),
        )
    return st.floats(
        low, high, exclude_min="gt" in limits, exclude_max="lt" in limits, allow_nan=False, allow_infinity=False
    )


def _unconstrained(annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    simple: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        UUID: st.uuids(),
        datetime: moments(),
        timedelta: st.integers(0, 10**12).map(lambda us: timedelta(microseconds=us)),
        type(None): st.none(),
        Any: json_values(),
        object: json_values(),
    }
    if annotation in simple:
        return simple[annotation]
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, UnionType):
        return st.one_of(*(_annotated(argument, []) for argument in arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(_annotated(arguments[0], []), _annotated(arguments[1], []), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    msg = f"no strategy for {annotation!r}; add one to tests/strategies.py"
    raise TypeError(msg)
