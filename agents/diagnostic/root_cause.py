"""Which symptom of an incident is the cause of the others, by what depends on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from topology.payloads.incidents import TRAILING_KINDS, Symptom
from topology.spec import ServiceSpec

Services = Mapping[str, ServiceSpec]

PRECEDENCE = (
    "health.refused",
    "health.timeout",
    "health.http_*",
    "health.error",
    "heartbeat.missing",
    "memory.*",
    "latency.*",
    "*",  # kinds of the operator's own rules
    "log.*",
    "pattern.*",
    "forecast.*",
    "alert.*",
    "metric.*",
)
"""Kinds of symptoms as glob patterns, the one that explains most in front; families named later come later."""

_OF_ITS_OWN = ("health.refused", "heartbeat.missing", "memory.*")
"""What a service has never because a service it depends on is ill: its process is gone, or takes too much itself."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The symptom taken to be the root cause.

    Attributes:
        rivals: how many other symptoms, of other services, could be one just as well.
    """

    symptom: Symptom
    rivals: int


def find_cause(symptoms: Sequence[Symptom], services: Services) -> Cause | None:
    """The most telling symptom that no symptom of a dependency explains; None without any symptom.

    Symptoms that trail their cause, and remarks of severity ``info``, are used only when there is nothing better.  Of
    equals the most upstream one wins, then the first in name, so that the answer does not hang on who came first.
    """
    told = _best_of(symptoms)
    if not told:
        return None
    ill = {symptom.service for symptom in told}
    unexplained = [s for s in told if _is_own(s) or not (upstream_of(s.service, services) & ill)]
    # Only services that depend on each other in a circle explain each other away.
    roots = sorted(unexplained or told, key=lambda s: (_rank(s.kind), _depth(s, ill, services), s.service, s.subject))
    return Cause(roots[0], rivals=len({s.service for s in roots} - {roots[0].service}))


def upstream_of(service: str, services: Services) -> frozenset[str]:
    """Every service it depends on, directly or not; without itself."""
    found: set[str] = set()
    waiting = [service]
    while waiting:
        spec = services.get(waiting.pop())
        for other in spec.depends_on if spec else ():
            if other not in found and other != service:
                found.add(other)
                waiting.append(other)
    return frozenset(found)


def _best_of(symptoms: Sequence[Symptom]) -> list[Symptom]:
    counted = [s for s in symptoms if s.severity != "info"] or list(symptoms)
    return [s for s in counted if not s.kind.startswith(TRAILING_KINDS)] or counted


def _is_own(symptom: Symptom) -> bool:
    return any(fnmatchcase(symptom.kind, pattern) for pattern in _OF_ITS_OWN)


def _depth(symptom: Symptom, ill: set[str], services: Services) -> int:
    return len(upstream_of(symptom.service, services) & ill)


def _rank(kind: str) -> int:
    matching = [rank for rank, pattern in enumerate(PRECEDENCE) if pattern != "*" and fnmatchcase(kind, pattern)]
    return matching[0] if matching else PRECEDENCE.index("*")
