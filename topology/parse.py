"""The text of a topology as its declared form, with the line of every part.

Reading the file is the caller's: text in, declaration out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from topology.defects import BrokenTopologyError, Defect, Places
from topology.explain import explain
from topology.spec import TopologySpec
from topology.yaml_text import read_yaml

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ParsedTopology:
    """A declared topology and where each part of it was written; ``places`` is empty when it was built in Python."""

    spec: TopologySpec
    places: Places = field(default_factory=lambda: Places("topology"))


def parse(text: str, origin: str = "topology") -> ParsedTopology:
    """The declaration in a YAML text; ``origin`` names it in messages, usually by its file name.

    Raises:
        BrokenTopologyError: not YAML, or not the form of ``topology.spec``; every defect is in it, with its line.
    """
    return ParsedTopology(*read_declared(text, origin, TopologySpec, first="name"))


def read_declared(text: str, origin: str, model: type[M], *, first: str) -> tuple[M, Places]:
    """What a YAML text declares in the form of a model, and where each part of it was written.

    Args:
        first: the key such a text usually begins with.

    Raises:
        BrokenTopologyError: not YAML, or not of this form; every defect is in it, with its line.
    """
    data, places = read_yaml(text, origin)
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"{type(data).__name__}"
        required = [name for name, field in model.model_fields.items() if field.is_required()]
        expected = (
            f"a mapping with {' and '.join([', '.join(required[:-1]), required[-1]] if required[1:] else required)}"
        )
        raise BrokenTopologyError([Defect(origin, 1, (), found, expected, f"start with `{first}: ...`")])
    try:
        return model.model_validate(data), places
    except ValidationError as error:
        raise BrokenTopologyError(explain(error, model, places)) from error
