"""The text of a topology as its declared form, with the line of every part.

Reading the file is the caller's: text in, declaration out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from topology.defects import BrokenTopologyError, Defect, Places
from topology.explain import explain
from topology.spec import TopologySpec
from topology.yaml_text import read_yaml


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
    data, places = read_yaml(text, origin)
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"{type(data).__name__}"
        expected = "a mapping with name, streams and stages"
        raise BrokenTopologyError([Defect(origin, 1, (), found, expected, "start with `name: ...`")])
    try:
        spec = TopologySpec.model_validate(data)
    except ValidationError as error:
        raise BrokenTopologyError(explain(error, TopologySpec, places)) from error
    return ParsedTopology(spec, places)
