"""Checks a topology's text at once: also what is sound of it when other parts have the wrong form.

Nothing is said of what may only look wrong because a part is missing: the flow as a whole, and edges to a stream that is
not known well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from topology.check import check, check_draft
from topology.defects import BrokenTopologyError, Defect, Path, Places, in_order
from topology.draft import AgentLoader, draft_of
from topology.parse import ParsedTopology, parse
from topology.spec import StageSpec, TopologySpec
from topology.yaml_text import read_yaml

_ONLY_OF_THE_STAGE = frozenset(StageSpec.model_fields) - {"id", "agent", "consumes", "emits"}
"""Fields of a stage whose loss changes nothing for others."""
_ONLY_OF_THE_STREAM = frozenset({"retain", "archive", "priority"})
_UNKNOWN = {"carries": ["?"]}


def check_text(text: str, origin: str, load: AgentLoader) -> tuple[Defect, ...]:
    """Everything that is wrong with the text of a topology, sorted by line; empty when nothing is."""
    try:
        return check(parse(text, origin), load)
    except BrokenTopologyError as broken:
        defects, complaint = broken.defects, broken.__cause__
    if not isinstance(complaint, ValidationError):
        return defects  # not even YAML
    data, places = read_yaml(text, origin)
    rest = _Rest.of(data, [tuple(each["loc"]) for each in complaint.errors()])
    return in_order([*defects, *(rest.defects(places, load) if rest else ())])


@dataclass(frozen=True, slots=True)
class _Rest:
    """The declaration without what has the wrong form.

    Attributes:
        stages: where the stages that are left stand in the text.
        vague: streams of which not all is known.
        lost: what was taken out, by path; something else may be missing because of it.
    """

    spec: TopologySpec
    stages: tuple[int, ...]
    vague: frozenset[str]
    lost: frozenset[Path]

    @classmethod
    def of(cls, data: Any, complaints: list[Path]) -> _Rest | None:
        """None when too little is left to say anything."""
        streams, stages = (data.get(key) if isinstance(data, Mapping) else None for key in ("streams", "stages"))
        if not isinstance(streams, Mapping) or not isinstance(stages, list):
            return None
        vague: set[str] = set()
        gone: set[int] = set()
        lost: set[Path] = set()
        for loc in complaints:
            match loc:
                case ("streams", str(name), str(field), *_) if field in _ONLY_OF_THE_STREAM:
                    lost.add(("streams", name, field))
                case ("streams", str(name), *_):
                    vague.add(name)
                case ("stages", int(index), str(field), *_) if field in _ONLY_OF_THE_STAGE:
                    lost.add(("stages", index, field))
                case ("stages", int(index), *_):
                    gone.add(index)
                case (str(section), *_):
                    lost.add((section,))
        left = tuple(index for index in range(len(stages)) if index not in gone)
        rest = {key: value for key, value in data.items() if (key,) not in lost}
        rest |= {"name": rest.get("name", "nameless"), "streams": {}, "stages": []}
        for name, stream in streams.items():
            rest["streams"][name] = _UNKNOWN if name in vague else _without(stream, ("streams", name), lost)
        rest["stages"] = [_without(stages[index], ("stages", index), lost) for index in left]
        try:
            spec = TopologySpec.model_validate(rest)
        except ValidationError:
            return None  # such as a stream's name that is none
        return cls(spec, left, frozenset(vague), frozenset(lost))

    def defects(self, places: Places, load: AgentLoader) -> Iterator[Defect]:
        """What is wrong with it and cannot come of what is missing."""
        draft = draft_of(ParsedTopology(self.spec, Places(places.origin, self._lines(places))), load)
        doubtful = {stage.path: stage.spec for stage in draft.stages if self._touches_the_vague(stage.spec)}
        for defect in check_draft(draft, whole=False):
            if defect.path[:1] == ("streams",) and defect.path[1] in self.vague:
                continue
            if defect.path[:2] in doubtful and self._is_about_an_edge(defect.path, doubtful[defect.path[:2]]):
                continue
            path = self._in_the_text(defect.path)
            if path[:3] not in self.lost:
                yield replace(defect, path=path)

    def _touches_the_vague(self, stage: StageSpec) -> bool:
        named = {entry.stream for entry in stage.inputs} | set(stage.emits)
        return bool(self.vague) and (None in named or not self.vague.isdisjoint(named - {None}))

    def _is_about_an_edge(self, path: Path, stage: StageSpec) -> bool:
        """Whether a path is one of a stage's inputs or outputs that are declared; a name nobody has is wrong anyhow."""
        match path[2:]:
            case ("consumes", int(index), *_):
                name = stage.inputs[index].stream
            case ("emits", int(index), *_):
                name = stage.emits[index]
            case (field, *_):
                return field in ("consumes", "emits")
            case _:
                return False
        return name is None or name in self.spec.streams

    def _lines(self, places: Places) -> dict[Path, int]:
        new_of = {old: new for new, old in enumerate(self.stages)}
        lines: dict[Path, int] = {}
        for path, line in places.lines.items():
            match path:
                case ("stages", int(old), *below):
                    if old in new_of:
                        lines["stages", new_of[old], *below] = line
                case _:
                    lines[path] = line
        return lines

    def _in_the_text(self, path: Path) -> Path:
        match path:
            case ("stages", int(new), *below):
                return ("stages", self.stages[new], *below)
        return path


def _without(value: Any, path: Path, lost: set[Path]) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: inner for key, inner in value.items() if (*path, key) not in lost}
