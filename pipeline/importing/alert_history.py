"""What Alertmanager said: bodies of its webhook, and what its API (v2) answers when asked for alerts.

Each file is one JSON document, or has one on each line: a body, an alert, or a list of alerts.  What was repeated, as
Alertmanager does while an alert lasts, is taken once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.importing.inputs import Inputs, as_text, brief, parsed
from pipeline.importing.observation import Observation
from pipeline.sources.formats import alertmanager
from pipeline.sources.formats.body import MalformedBodyError, Reception, moment, naming
from topology.errors import BadInputError
from topology.payloads.signals import AlertFired, AlertResolved, Signal

_NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Stands for the time of reception, which nobody knows any more."""


@dataclass(frozen=True, slots=True)
class AlertHistory:
    """Reads such files; there is nothing to choose."""

    source: str = "alertmanager"
    gives: tuple[type[Signal], ...] = (AlertFired, AlertResolved)
    repeats: bool = False

    def read(self, path: Path, inputs: Inputs) -> Iterator[Observation]:
        """See :class:`pipeline.importing.observation.Importer`."""
        for where, raw in inputs.documents(path):
            try:
                document = parsed(raw)
                alerts = document if isinstance(document, list) else [document]
            except BadInputError as error:
                inputs.refuse(path, where, error)
                continue
            for number, alert in enumerate(alerts):
                place = f"[{number}]" if isinstance(document, list) else ""
                try:
                    found = _observed(alert, place)
                except BadInputError as error:
                    inputs.refuse(path, where or "the document", error)
                    continue
                yield from found


def _observed(alert: Any, place: str) -> list[Observation]:
    """What a webhook's body or an alert of the API says."""
    if not isinstance(alert, dict) or not {"alerts", "labels"} & set(alert):
        raise MalformedBodyError(
            brief(alert), "a body of the webhook (version 4) or an alert of the API (v2)", field=place
        )
    if "alerts" in alert:
        return _of_body(alert)
    with naming(place or "alert"):
        return [said for body in _as_bodies(alert) for said in _of_body(body)]


def _of_body(body: Mapping[str, Any]) -> list[Observation]:
    found = []
    for number, event in enumerate(alertmanager.read(as_text(body).encode(), Reception(at=_NEVER))):
        if event.timestamp == _NEVER:
            expected = "when it was resolved; nobody knows when it came"
            raise MalformedBodyError("nothing", expected, field=f"alerts[{number}].endsAt")
        metadata = {name: value for name, value in event.metadata.items() if name != "observed_at"}
        found.append(Observation(event.at_us, event.payload, event.id, metadata))
    return found


def _as_bodies(alert: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The bodies that the webhook would have been sent: that it fires, and when it is over, that it is.

    While an alert lasts, its end is a guess in the future; it has ended when the end was there at the last update.
    """
    said = {name: value for name, value in alert.items() if name != "status"}
    fired = {**said, "status": "firing"}
    yield {"version": "4", "alerts": [fired]}
    if alert.get("endsAt") is not None and alert.get("updatedAt") is not None:
        starts_at, ends_at, updated_at = (moment(alert.get(at), field=at) for at in ("startsAt", "endsAt", "updatedAt"))
        if starts_at <= ends_at <= updated_at:
            yield {"version": "4", "alerts": [{**said, "status": "resolved"}]}
