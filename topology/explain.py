"""Pydantic's complaints about a declaration, as defects with a line and a way out."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from topology.defects import Defect, Path, Places, did_you_mean, show_names

_NOT_WRITTEN = ("[key]", "[input]", "[name]")
"""Parts of pydantic's paths that are not in the document: a key itself, and the forms an input may have."""

_UNITS = {"string_too_short": "character", "too_short": "item"}


def explain(error: ValidationError, model: type[BaseModel], places: Places, at: Path = ()) -> list[Defect]:
    """One defect for each complaint about a model that was declared at a path."""
    complaints = error.errors(include_url=False)
    inside = {details["loc"][:length] for details in complaints for length in range(len(details["loc"]))}
    # Pydantic also calls a list too short when its items were refused.
    told = [details for details in complaints if details["type"] != "too_short" or details["loc"] not in inside]
    return [_defect(details, model, places, at) for details in told]


def _defect(details: ErrorDetails, model: type[BaseModel], places: Places, at: Path) -> Defect:
    loc = tuple(part for part in details["loc"] if part not in _NOT_WRITTEN)
    path = (*at, *loc)
    kind = details["type"]
    if kind == "missing":
        return places.defect(path, found="nothing", expected=_wanted(model, loc), remedy="add it")
    if kind == "extra_forbidden":
        known = _keys_at(model, loc[:-1])
        remedy = did_you_mean(str(loc[-1]), known, "remove it, or check its indentation")
        return places.defect(path, found="an unknown key", expected=f"one of {show_names(known)}", remedy=remedy)
    found, expected = _show(details["input"]), details["msg"].removeprefix("Input should be ")
    if kind == "value_error":
        # Our own validators say "found ..., expected ...", and know better what of the value is wrong.
        said, _, wanted = expected.removeprefix("Value error, ").rpartition(", expected ")
        found, expected = said.removeprefix("found ") or found, wanted
    elif kind == "string_pattern_mismatch":
        expected = f"text of the form {details['ctx']['pattern']}"
    elif kind in _UNITS:
        least = details["ctx"]["min_length"]
        expected = f"at least {'one' if least == 1 else least} {_UNITS[kind]}{'' if least == 1 else 's'}"
    return places.defect(path, found=found, expected=expected, remedy="change it")


def _show(found: object) -> str:
    if isinstance(found, Mapping):
        return "a mapping"
    if isinstance(found, list | tuple):
        return "an empty list" if not found else "a list"
    return "nothing" if found is None else f"{found!r:.80}"


def _wanted(model: type[BaseModel], loc: Path) -> str:
    owner = model_at(model, loc[:-1])
    field = owner.model_fields.get(str(loc[-1])) if owner else None
    described = f" ({field.description})" if field and field.description else ""
    return f"{loc[-1]}{described}"


def _keys_at(model: type[BaseModel], loc: Path) -> list[str]:
    owner = model_at(model, loc)
    return list(owner.model_fields) if owner else []


def model_at(model: type[BaseModel], loc: Path) -> type[BaseModel] | None:
    """The model that describes the value at a path inside another model's data; None when none does."""
    current: Any = model
    for part in loc:
        current = _inner(current, part)
    current = _plain(current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _inner(annotation: Any, part: str | int) -> Any:
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field else None
    arguments = get_args(annotation)
    if not arguments:
        return None
    return arguments[0] if get_origin(annotation) in (tuple, list) else arguments[-1]


def _plain(annotation: Any) -> Any:
    """Without what only decorates it: ``Annotated`` and ``| None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _plain(next((a for a in get_args(annotation) if a is not type(None)), None))
    return annotation
