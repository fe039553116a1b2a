"""YAML text as plain values, with the line of everything in it.

Stricter than YAML itself: one document, text keys, no key twice, no tags beyond the plain scalars; anchors, aliases and
merge keys (``<<``) are allowed.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from topology.defects import BrokenTopologyError, Defect, Path, Places, raise_if_broken

VALUES_MAX = 100_000
"""Aliases of aliases could otherwise make a short text fill the memory."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_SCALAR_TAGS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))


def read_yaml(text: str, origin: str) -> tuple[Any, Places]:
    """The value of a YAML text, and where each part of it was written.

    Raises:
        BrokenTopologyError: the text is not YAML, or breaks one of the rules above.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        reader = _Reader(origin)
        value = None if root is None else reader.value(root, (), root.start_mark.line + 1, frozenset())
    except yaml.YAMLError as error:
        raise BrokenTopologyError([_syntax_defect(error, text, origin)]) from error
    except RecursionError as error:
        defect = Defect(origin, 1, (), "values nested too deeply to read", "a handful of levels", "flatten it")
        raise BrokenTopologyError([defect]) from error
    raise_if_broken(reader.defects)
    return value, Places(origin, reader.lines)


class _Reader:
    """Walks the nodes of one document; collects lines and defects."""

    def __init__(self, origin: str) -> None:
        self.lines: dict[Path, int] = {}
        self.defects: list[Defect] = []
        self._origin = origin
        self._scalars = SafeConstructor()
        self._values = 0

    def value(self, node: Node, path: Path, line: int, around: frozenset[int]) -> Any:
        """The plain value of a node; ``around`` are the nodes it lies in, to notice one that contains itself."""
        self.lines[path] = line
        self._values += 1
        if id(node) in around:
            self._complain(node, path, "an alias of something that contains it", "a finite document", "write it out")
            return None
        if self._values > VALUES_MAX:
            if self._values == VALUES_MAX + 1:
                self._complain(node, path, f"more than {VALUES_MAX} values", "fewer", "look for aliases of aliases")
            return None
        around |= {id(node)}
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, around)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            items = enumerate(node.value)
            return [self.value(item, (*path, i), item.start_mark.line + 1, around) for i, item in items]
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._complain_of_tag(node, path)
        return None

    def _mapping(self, node: MappingNode, path: Path, around: frozenset[int]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = {**self._merged(value_node, path, around), **merged}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag == _MERGE:
                continue
            if key_node.tag != _TAG + "str":
                shown = repr(key) if isinstance(key, str) else "a list or a mapping"
                self._complain(key_node, path, f"{shown} as a key", "text", "put it in quotes")
            elif key in own:
                first = self.lines[(*path, key)]
                found = f"the key {key!r} a second time (first in line {first})"
                self._complain(key_node, path, found, "every key once", "remove or rename one of them")
            else:
                own[key] = self.value(value_node, (*path, key), key_node.start_mark.line + 1, around)
        return {**merged, **own}

    def _merged(self, node: Node, path: Path, around: frozenset[int]) -> dict[str, Any]:
        """What ``<<`` brings in; of several mappings the earlier one wins, as YAML has it."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, MappingNode):
                self._complain(source, path, "something else after <<", "an alias of a mapping", "merge mappings only")
            elif id(source) in around:
                self._complain(source, path, "a mapping merged into itself", "another one", "remove the <<")
            else:
                merged = {**self._mapping(source, path, around | {id(source)}), **merged}
        return merged

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        if node.tag == _TAG + "timestamp" and node.style is None:
            return node.value  # what looks like a date is left as it was written
        if node.tag not in _SCALAR_TAGS:
            self._complain_of_tag(node, path)
            return None
        try:
            return self._scalars.construct_object(node)
        except ValueError:
            kind = node.tag.removeprefix(_TAG)
            self._complain(node, path, f"{node.value!r:.80}", f"a readable {kind}", "put it in quotes if text is meant")
            return None

    def _complain_of_tag(self, node: Node, path: Path) -> None:
        shown = node.tag.replace(_TAG, "!!")
        self._complain(node, path, f"the tag {shown}", "a plain value, list or mapping", "remove the tag")

    def _complain(self, node: Node, path: Path, found: str, expected: str, remedy: str) -> None:
        line = node.start_mark.line + 1 if node.start_mark else 0
        self.defects.append(Defect(self._origin, line, path, found, expected, remedy))


def _syntax_defect(error: yaml.YAMLError, text: str, origin: str) -> Defect:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        found = " ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        found = f"a character that YAML does not allow ({error.reason})"
    else:
        line, found = 1, str(error)
    return Defect(origin, line, (), found, "a YAML document", "correct the text near this line")
