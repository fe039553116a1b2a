"""What the entries of a stage's ``consumes`` come to: which streams it reads, what of them, and within which limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from topology.agent import Agent
from topology.condition import Condition, ConditionError
from topology.defects import Defect, DefectSeverity, Path, Places, did_you_mean, show_names
from topology.event import Payload
from topology.graph import Edge, Stream
from topology.payloads.collaboration import HelpRequested
from topology.payloads.lessons import ExperienceRecorded
from topology.spec import InputSpec, StageSpec

Types = frozenset[type[Payload]]
_HANDED_ON: Types = frozenset({ExperienceRecorded, HelpRequested})
"""What the engine hands to agents that override ``learn`` or ``offer_help``, whatever else they consume."""


class Subscription:
    """The inputs of one stage, as far as they could be found.

    Attributes:
        inputs: the streams read, in declared order.
        edges: how those are taken that are not simply read.
        defects: what could not be found, or does not fit.
    """

    def __init__(
        self,
        stage: StageSpec,
        path: Path,
        places: Places,
        streams: Mapping[str, Stream],
        agent_class: type[Agent[Any, Any]] | None,
    ) -> None:
        self.defects: list[Defect] = []
        self._stage = stage
        self._places = places
        self._streams = streams
        self._consumed = None if agent_class is None else agent_class.consumes
        self._found: dict[str, Edge] = {}
        for index, entry in enumerate(stage.inputs):
            at: Path = (*path, "consumes", index)
            condition = self._condition(entry.where, (*at, "where"))
            for stream, types in self._streams_of(entry, at, written=stage.consumes[index]):
                self._take(stream, types, entry, condition, at)
        self.inputs = tuple(streams[name] for name in self._found)
        self.edges: Mapping[str, Edge] = {name: edge for name, edge in self._found.items() if edge != Edge()}

    def _streams_of(self, entry: InputSpec, at: Path, *, written: object) -> Iterator[tuple[Stream, Types | None]]:
        """The streams an entry means, each with the types that are asked for by name; None where none are."""
        if entry.stream is not None:
            stream = self._streams.get(entry.stream)
            if stream is None:
                found = f"stage {self._stage.id!r} reads {entry.stream!r}"
                path = at if isinstance(written, str) else (*at, "stream")
                self.defects.append(unknown_stream(self._places, path, found, entry.stream, self._streams))
                return
            types = {self._type(name, stream, (*at, "types", n)) for n, name in enumerate(entry.types)}
            yield stream, frozenset(each for each in types if each is not None) if entry.types else None
            return
        named = {each.stream for each in self._stage.inputs} | set(self._stage.emits)
        carriers = [
            (stream, payload)
            for stream in self._streams.values()
            for payload in stream.carries
            if payload.__name__ == entry.type and stream.name not in named
        ]
        if not carriers:
            carried = {payload.__name__ for stream in self._streams.values() for payload in stream.carries}
            self._complain(
                (*at, "type"),
                found=f"stage {self._stage.id!r} wants {entry.type!r} wherever it flows",
                expected="a type that a stream carries which this stage neither names nor writes",
                remedy=did_you_mean(str(entry.type), carried - {entry.type}, "name the streams it is to be read from"),
            )
        for stream, payload in carriers:
            yield stream, frozenset({payload})

    def _type(self, name: str, stream: Stream, path: Path) -> type[Payload] | None:
        for payload in stream.carries:
            if payload.__name__ == name:
                if self._consumed is not None and payload not in self._consumed | _HANDED_ON:
                    self._complain(
                        path,
                        found=f"stage {self._stage.id!r} wants {name} of {stream.name!r}, and its agent consumes no such type",
                        expected=f"one it consumes ({show_names(each.__name__ for each in self._consumed)})",
                        remedy="take it out, or let the agent consume it",
                        severity="warning",
                    )
                return payload
        carried = [payload.__name__ for payload in stream.carries]
        self._complain(
            path,
            found=f"stage {self._stage.id!r} wants {name!r} of {stream.name!r}",
            expected=f"a type it carries ({show_names(carried)})",
            remedy=did_you_mean(name, carried, f"add {name} to what {stream.name!r} carries"),
        )
        return None

    def _take(
        self, stream: Stream, types: Types | None, entry: InputSpec, condition: Condition | None, at: Path
    ) -> None:
        before = self._found.get(stream.name)
        taken = stream.carries if types is None else types
        if before is not None and (before.where is None or types is None or not taken.isdisjoint(before.where)):
            self._complain(
                at,
                found=f"stage {self._stage.id!r} reads {stream.name!r} a second time",
                expected="every stream once" if before.where is None else "every type of a stream once",
                remedy="remove one of them",
            )
            return
        concerned = taken if self._consumed is None else taken & self._consumed
        if condition is not None:
            self._must_fit(condition, concerned, (*at, "where"))
        edge = Edge(
            None,
            entry.lag_max,
            entry.when_full,
            self._shedding(entry.shed_first, concerned, (*at, "shed_first")),
            self._shedding(entry.shed_last, concerned, (*at, "shed_last")),
        )
        if types is not None or condition is not None:
            conditions = () if condition is None else (condition,)
            edge = replace(edge, where={each: conditions if each in concerned else () for each in _sorted(taken)})
        if before is not None:
            if replace(before, where=None) != replace(edge, where=None):
                self._complain(
                    at,
                    found=f"stage {self._stage.id!r} reading {stream.name!r} with other limits than before",
                    expected="one lag_max, when_full, shed_first and shed_last for a stream",
                    remedy="write the same in both",
                )
            edge = replace(edge, where={**(before.where or {}), **(edge.where or {})})
        self._found[stream.name] = edge

    def _condition(self, text: str | None, path: Path) -> Condition | None:
        if text is None:
            return None
        try:
            return Condition.parse(text)
        except ConditionError as error:
            self._complain(path, found=error.found, expected=error.expected, remedy=error.remedy)
            return None

    def _shedding(self, text: str | None, types: Types, path: Path) -> Condition | None:
        """Types without the field it speaks of are neither first nor last, but it must speak of one at least."""
        condition = self._condition(text, path)
        if condition is not None and types:
            errors = [error for each in _sorted(types) if (error := _misfit(condition, each)) is not None]
            if len(errors) == len(types):
                self._complain(path, found=errors[0].found, expected=errors[0].expected, remedy=errors[0].remedy)
        return condition

    def _must_fit(self, condition: Condition, types: Types, path: Path) -> None:
        for each in _sorted(types):
            error = _misfit(condition, each)
            if error is not None:
                self._complain(path, found=error.found, expected=error.expected, remedy=error.remedy)
                return

    def _complain(
        self, path: Path, *, found: str, expected: str, remedy: str, severity: DefectSeverity = "error"
    ) -> None:
        defect = self._places.defect(path, found=found, expected=expected, remedy=remedy, severity=severity)
        self.defects.append(defect)


def unknown_stream(places: Places, path: Path, found: str, name: str, streams: Collection[str]) -> Defect:
    """A name that no stream has."""
    return places.defect(
        path,
        found=found,
        expected=f"a declared stream ({show_names(streams)})",
        remedy=did_you_mean(name, streams, f"declare {name!r} under `streams`, or correct the name"),
    )


def _misfit(condition: Condition, payload: type[Payload]) -> ConditionError | None:
    try:
        condition.for_payload(payload)
    except ConditionError as error:
        return error
    return None


def _sorted(types: Types) -> list[type[Payload]]:
    return sorted(types, key=lambda payload: payload.__name__)
