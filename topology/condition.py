"""What a stage may want of events beyond their type: ``payload.severity >= 'high' and payload.labels.region != 'test'``.

One small language, declared in a topology and typed on the command line.  It is read once, checked against the fields of
the payloads it is about, and becomes one function per payload class; nothing of it is evaluated as Python.

    payload.severity >= 'high'                 a field; of fields with a fixed choice the later value is the greater
    payload.labels.region == 'eu'              an entry of a mapping; also payload.labels['a-b']
    payload.value > 0.9 and not payload.metric in ['a', 'b']
    payload.healthy or source == 'probe'       what is true or false stands alone; `source` and `event_type` are the event's

What is not there is null: it equals null only, and is neither less nor greater than anything.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from topology.defects import did_you_mean, show_names
from topology.errors import ConfigurationError
from topology.event import Event, Payload

TEXT_MAX = 1_000
Test = Callable[[Event[Payload]], bool]
"""Whether an event is wanted; never raises for an event of the payload class it was made for."""
Read = Callable[[Event[Payload]], Any]

_FORM = "a comparison such as payload.severity == 'critical', joined with `and`, `or`, `not`"
_ENVELOPE = {"source": str, "event_type": str}
_CONSTANTS = {"true": True, "false": False, "null": None}
_ORDERS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class ConditionError(ConfigurationError):
    """A condition cannot be read, or does not fit the payload it is about: what was found, expected, and the way out."""

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(f"found {found}, expected {expected}; {remedy}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that could be read; :meth:`for_payload` makes a function of it."""

    text: str
    _root: ast.expr = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            ConditionError: it is not of the form above.
        """
        if len(text) > TEXT_MAX:
            raise ConditionError(
                f"a condition of {len(text)} characters", f"at most {TEXT_MAX}", "write an agent for it"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as of an escape that means nothing
                root = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = error.msg if isinstance(error, SyntaxError) else "nested too deeply, or with a null byte"
            raise ConditionError(f"{text!r:.100} ({why})", _FORM, "correct it") from error
        return cls(text.strip(), root)

    def for_payload(self, payload_type: type[Payload]) -> Test:
        """What the condition means for events of one type.

        Raises:
            ConditionError: the type has no such field, or the field cannot be compared so.
        """
        try:
            return _test(self._root, payload_type)
        except RecursionError as error:
            raise ConditionError(f"{self.text!r:.100}, nested too deeply", _FORM, "write an agent for it") from error


@dataclass(frozen=True, slots=True)
class _Value:
    """A field that a path leads to: how it is read, and what it may be."""

    path: str
    read: Read
    kinds: frozenset[type]
    choice: tuple[Any, ...] = ()


def _test(node: ast.expr, payload: type[Payload]) -> Test:
    if isinstance(node, ast.BoolOp):
        tests = [_test(value, payload) for value in node.values]
        every = isinstance(node.op, ast.And)
        return lambda event: all(t(event) for t in tests) if every else any(t(event) for t in tests)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        test = _test(node.operand, payload)
        return lambda event: not test(event)
    if isinstance(node, ast.Compare):
        # `0 < payload.value < 1` is both comparisons, as people mean it.
        ends = [node.left, *node.comparators]
        parts = [_comparison(ends[n], op, ends[n + 1], payload) for n, op in enumerate(node.ops)]
        return parts[0] if len(parts) == 1 else lambda event: all(part(event) for part in parts)
    value = _value(node, payload)
    if value.kinds - {bool, type(None)}:
        raise ConditionError(f"{value.path} alone, which is not true or false", _FORM, "compare it with something")
    read = value.read
    return lambda event: read(event) is True


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, payload: type[Payload]) -> Test:
    if isinstance(op, ast.In | ast.NotIn):
        return _membership(left, right, payload, wanted=isinstance(op, ast.In))
    if _is_constant(left) and not _is_constant(right):
        mirrored: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
            ast.Lt: ast.Gt,
            ast.LtE: ast.GtE,
            ast.Gt: ast.Lt,
            ast.GtE: ast.LtE,
        }
        return _comparison(right, mirrored.get(type(op), type(op))(), left, payload)
    value = _value(left, payload)
    constant, read = _constant(right), value.read
    _fits(value, constant)
    if isinstance(op, ast.Eq):
        return lambda event: bool(read(event) == constant)
    if isinstance(op, ast.NotEq):
        return lambda event: bool(read(event) != constant)
    compare = _ORDERS.get(type(op))
    if compare is None:
        raise ConditionError(f"`{ast.unparse(left)} {_shown(op)} ...`", "==, !=, <, <=, >, >= or in", "use one of them")
    if value.choice and constant is not None:
        rank = {each: n for n, each in enumerate(value.choice)}
        bound = rank[constant]
        return lambda event: (found := rank.get(read(event))) is not None and compare(found, bound)
    if not isinstance(constant, int | float) or isinstance(constant, bool):
        raise ConditionError(
            f"an order of {value.path} and {constant!r}", "a number, or a field with a fixed choice", "use == or `in`"
        )
    return lambda event: isinstance(found := read(event), int | float) and compare(found, constant)


def _membership(left: ast.expr, right: ast.expr, payload: type[Payload], *, wanted: bool) -> Test:
    if not isinstance(right, ast.List | ast.Tuple):
        raise ConditionError(
            f"`in {ast.unparse(right)}`", "a list such as ['high', 'critical']", "write the values out"
        )
    value = _value(left, payload)
    constants = [_constant(each) for each in right.elts]
    for constant in constants:
        _fits(value, constant)
    choice, read = tuple(constants), value.read
    return lambda event: (read(event) in choice) is wanted


def _fits(value: _Value, constant: Any) -> None:
    """Refuse what could never be equal."""
    if constant is None:
        return
    if value.choice and constant not in value.choice:
        values = [str(each) for each in value.choice]
        remedy = did_you_mean(str(constant), values, "use one of them")
        raise ConditionError(f"{value.path} compared with {constant!r}", f"one of {', '.join(values)}", remedy)
    kind = type(constant)
    if kind in value.kinds or (kind is int and float in value.kinds) or (kind is float and int in value.kinds):
        return
    names = show_names(each.__name__ for each in value.kinds if each is not type(None))
    raise ConditionError(f"{value.path} compared with {constant!r}", f"a value of type {names}", "correct the value")


def _value(node: ast.expr, payload: type[Payload]) -> _Value:
    path, parts = ast.unparse(node), _parts(node)
    if parts is None:
        raise ConditionError(f"`{path}`", _FORM, "begin with the field, such as payload.severity")
    root, *names = parts
    if root in _ENVELOPE and not names:
        return _Value(path, operator.attrgetter(root), frozenset({_ENVELOPE[root]}))
    if root != "payload" or not names:
        remedy = f"did you mean payload.{path}?" if root in payload.model_fields else "begin with `payload.`"
        raise ConditionError(f"`{path}`", "payload.FIELD, source or event_type", remedy)
    steps: list[Callable[[Any], Any]] = [operator.attrgetter("payload")]
    kinds: tuple[Any, ...] = (payload,)
    for name in names:
        steps.append(_step(name, kinds, path, payload))
        kinds = _kinds_below(name, kinds)
    return _leaf(path, steps, kinds)


def _step(name: str, kinds: Sequence[Any], path: str, payload: type[Payload]) -> Callable[[Any], Any]:
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if any(name in model.model_fields for model in models):
        return lambda owner: getattr(owner, name, None)
    if any(get_origin(kind) in (dict, Mapping) for kind in kinds):
        return lambda owner: owner.get(name) if isinstance(owner, Mapping) else None
    known = sorted({each for model in models for each in model.model_fields})
    remedy = did_you_mean(name, known, "narrow the edge with `types` to those that have it, or correct the name")
    raise ConditionError(
        f"`{path}`, and {payload.__name__} has no {name!r} there", f"one of {show_names(known)}", remedy
    )


def _kinds_below(name: str, kinds: Sequence[Any]) -> tuple[Any, ...]:
    below: list[Any] = []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields:
            below += _alternatives(kind.model_fields[name].annotation)
        elif get_origin(kind) in (dict, Mapping):
            below += [*_alternatives(get_args(kind)[1]), type(None)]
    return tuple(below)


def _leaf(path: str, steps: Sequence[Callable[[Any], Any]], kinds: Sequence[Any]) -> _Value:
    choice = tuple(value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind))
    plain = {kind for kind in kinds if kind in (str, int, float, bool, type(None))} | {type(value) for value in choice}
    others = [kind for kind in kinds if kind not in plain and get_origin(kind) is not Literal and kind is not Any]
    if others or not plain - {type(None)}:
        if Any not in kinds:
            shown = getattr(others[0] if others else kinds[0], "__name__", "something else")
            raise ConditionError(f"`{path}`, which is {shown}", "text, a number, true or false", "compare a part of it")
        plain = {str, int, float, bool}

    def read(event: Event[Payload]) -> Any:
        found: Any = event
        for step in steps:
            found = step(found)
        return found

    return _Value(path, read, frozenset(plain), choice if plain <= {type(None), *map(type, choice)} else ())


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _alternatives(each)]
    return [annotation]


def _parts(node: ast.expr) -> list[str] | None:
    """The names of a path, from the root on; None when it is something else."""
    if isinstance(node, ast.Name):
        return [node.id]
    owner: list[str] | None = None
    if isinstance(node, ast.Attribute):
        owner = _parts(node.value)
        return None if owner is None else [*owner, node.attr]
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        owner = _parts(node.value)
        return None if owner is None else [*owner, node.slice.value]
    return None


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.UnaryOp) or (isinstance(node, ast.Name) and node.id in _CONSTANTS)


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number
    raise ConditionError(
        f"`{ast.unparse(node)}`", "a text in quotes, a number, true, false or null", "compare with one"
    )


def _shown(op: ast.cmpop) -> str:
    return {ast.Is: "is", ast.IsNot: "is not"}.get(type(op), type(op).__name__)
