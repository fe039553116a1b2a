"""Whether a declared topology can run: every rule, every defect, at once.

The rules: names in this module, single edges in :mod:`topology.edges`, the flow as a whole in :mod:`topology.flow`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from topology.defects import Defect, Path, Places, did_you_mean, in_order
from topology.draft import AgentLoader, Draft, draft_of
from topology.edges import edge_defects
from topology.flow import flow_defects
from topology.parse import ParsedTopology
from topology.passing import passing_defects
from topology.spec import TopologySpec

SOURCES_WRITE = ("intake",)
"""The stream that sources publish to in the product's own topology."""
SINKS_READ = ("incidents", "diagnoses", "plans", "actions", "outcomes", "lessons")
"""What the product's sink keeps, where a topology has it."""

_SECRET_KEY = re.compile(r"(^|[._-])(password|passwd|secret|token|api[._-]?key|private[._-]?key|credentials?)$", re.I)
_SECRET_VALUE = re.compile(r"://[^/@\s:]*:[^/@\s]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----")


def check(
    parsed: ParsedTopology,
    load: AgentLoader,
    *,
    written_outside: Collection[str] = SOURCES_WRITE,
    read_outside: Collection[str] | None = None,
) -> tuple[Defect, ...]:
    """Everything that is wrong with a declared topology, sorted by line; empty when nothing is.

    Args:
        parsed: the declaration.
        load: gives the class of ``module:Class``; raises ConfigurationError, ImportError or AttributeError when it
            cannot.
        written_outside: streams that sources write to.
        read_outside: streams that sinks read; None when they may read any.
    """
    return check_draft(draft_of(parsed, load), written_outside=written_outside, read_outside=read_outside)


def check_draft(
    draft: Draft,
    *,
    written_outside: Collection[str] = SOURCES_WRITE,
    read_outside: Collection[str] | None = None,
    whole: bool = True,
) -> tuple[Defect, ...]:
    """As :func:`check`, for names that were looked up already.

    Args:
        whole: False for a declaration of which parts are missing; then nothing is said of what may look wrong for it.
    """
    spec, places = draft.spec, draft.places
    defects = [
        *draft.defects,
        *_stage_ids(spec, places),
        *_solution_ids(spec, places),
        *_services(spec, places),
        *_secrets(spec, places),
        *edge_defects(draft),
    ]
    if not whole:
        return in_order(defects)
    defects += passing_defects(draft, {*written_outside}, {*(SINKS_READ if read_outside is None else read_outside)})
    # Behind a broken edge everything looks unwritten and unreachable; that would only hide the one thing to mend.
    if not any(defect.severity == "error" for defect in defects):
        defects.extend(flow_defects(draft, written_outside=written_outside, read_outside=read_outside))
    return in_order(defects)


def _stage_ids(spec: TopologySpec, places: Places) -> Iterator[Defect]:
    """Ids and aliases share one space: state and offsets are found under either."""
    owners: dict[str, Path] = {}
    for index, stage in enumerate(spec.stages):
        names: list[tuple[Path, str, str]] = [(("stages", index, "id"), stage.id, "stage id")]
        names += [(("stages", index, "aliases", i), alias, "alias") for i, alias in enumerate(stage.aliases)]
        for path, name, kind in names:
            if name in owners:
                yield _taken(
                    places, path, f"{kind} {name!r}", owners[name], "it names the state and offsets of one stage"
                )
            else:
                owners[name] = path


def _solution_ids(spec: TopologySpec, places: Places) -> Iterator[Defect]:
    owners: dict[str, Path] = {}
    for index, solution in enumerate(spec.solutions):
        path: Path = ("solutions", index, "id")
        if solution.id in owners:
            yield _taken(
                places, path, f"solution {solution.id!r}", owners[solution.id], "experiences are kept under it"
            )
        else:
            owners[solution.id] = path


def _taken(places: Places, path: Path, what: str, owner: Path, because: str) -> Defect:
    line = places.line_of(owner)
    first = f" (first in line {line})" if line else ""
    expected = f"a name that is used once, because {because}"
    return places.defect(path, found=f"{what} a second time{first}", expected=expected, remedy="rename one of them")


def _services(spec: TopologySpec, places: Places) -> Iterator[Defect]:
    owners: dict[str, str] = {}
    for system_name, system in spec.systems.items():
        for service in system.services:
            if service in owners:
                yield places.defect(
                    ("systems", system_name, "services", service),
                    found=f"service {service!r} of system {system_name!r}, which is one of {owners[service]!r} already",
                    expected="every service in one system",
                    remedy="take it out of one of them",
                )
            owners.setdefault(service, system_name)
    for system_name, system in spec.systems.items():
        for service, declared in system.services.items():
            for index, dependency in enumerate(declared.depends_on):
                if dependency not in owners:
                    yield places.defect(
                        ("systems", system_name, "services", service, "depends_on", index),
                        found=f"service {service!r} depending on {dependency!r}",
                        expected="a service of a declared system",
                        remedy=did_you_mean(
                            dependency, owners, f"declare {dependency!r}, so that it can be found guilty"
                        ),
                        severity="warning",
                    )


def _secrets(spec: TopologySpec, places: Places) -> Iterator[Defect]:
    for index, stage in enumerate(spec.stages):
        yield from _secrets_in(stage.config, ("stages", index, "config"), places)
    for index, solution in enumerate(spec.solutions):
        yield from _secrets_in(solution.parameters, ("solutions", index, "parameters"), places)


def _secrets_in(value: Any, path: Path, places: Places) -> Iterator[Defect]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets_in(inner, (*path, str(key)), places)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _secrets_in(inner, (*path, index), places)
    elif isinstance(value, str) and value and (_SECRET_KEY.search(str(path[-1])) or _SECRET_VALUE.search(value)):
        yield places.defect(
            path,
            found="what looks like a secret",
            expected="no secret in a topology, which is shared and kept in version control",
            remedy="give it to the executor or the source by a setting",
        )
