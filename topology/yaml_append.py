"""One more item at the end of a list in a YAML text; everything else, comments too, stays as it was written."""

from __future__ import annotations

import yaml
from yaml.nodes import MappingNode, SequenceNode

from topology.errors import UsageError


def with_item(text: str, key: str, item: str) -> str:
    """The text with an item after the last one of a top-level list that is written with dashes.

    Args:
        text: YAML that can be read.
        item: its lines, the first beginning with ``- ``, as they are written without indentation.

    Raises:
        UsageError: the list is not there, is empty, or is written in brackets.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    sequence = _sequence(text, key)
    lines = text.splitlines(keepends=True)
    after = min(sequence.end_mark.line, len(lines))
    while _says_nothing(lines[after - 1]):
        after -= 1  # what is written before the next key belongs to that
    indent = " " * sequence.start_mark.column
    return "".join(
        [*lines[:after], *(f"{indent}{line}\n" if line else "\n" for line in item.splitlines()), *lines[after:]]
    )


def _sequence(text: str, key: str) -> SequenceNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key_node, value in root.value if isinstance(root, MappingNode) else []:
        if key_node.value == key and isinstance(value, SequenceNode) and value.value and not value.flow_style:
            return value
    msg = f"found no list under `{key}` that is written with dashes, expected one; add by hand what was to be added"
    raise UsageError(msg)


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
