"""How symptoms and problems are put into words: stable ones, for they are what similar problems are found by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from topology.payloads.incidents import Change, Symptom

_PHRASES: Mapping[str, str] = {
    "health.refused": "refuses connections",
    "health.timeout": "does not answer in time",
    "health.error": "breaks off connections",
    "heartbeat.missing": "has fallen silent",
    "latency.high": "answers slowly",
    "memory.high": "uses too much memory",
    "log.errors": "logs errors",
    "metric.surprise": "behaves unusually",
}


def phrase(kind: str) -> str:
    """What a service with this symptom does, without numbers that differ from time to time."""
    if kind in _PHRASES:
        return _PHRASES[kind]
    family, _, name = kind.partition(".")
    if kind.startswith("health.http_"):
        return f"answers its health check with {name.removeprefix('http_')}"
    if family == "alert":
        return f"has an alert: {name.replace('-', ' ')}"
    return f"shows {kind}"


def problem_title(symptom: Symptom, subject: str) -> str:
    """The problem in one line; ``subject`` is what belongs to its identity."""
    title = f"{symptom.service} {phrase(symptom.kind)}"
    return f"{title}: {subject}" if subject else title


def problem_description(title: str, symptoms: Sequence[Symptom], changes: Sequence[Change], why: str) -> str:
    """The problem as one would tell it to a colleague."""
    also = [s for s in symptoms if problem_title(s, "") != title]
    parts = [f"{title}."]
    if also:
        parts.append("Also: " + "; ".join(dict.fromkeys(problem_title(s, "") for s in also)) + ".")
    if changes:
        told = (f"{c.kind} of {c.service} to {c.change}" for c in changes)
        parts.append("Changed shortly before: " + "; ".join(dict.fromkeys(told)) + ".")
    if why:
        parts.append(f"Seen as one: {why}.")
    return " ".join(parts)
