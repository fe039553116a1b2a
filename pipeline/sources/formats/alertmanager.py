"""Prometheus Alertmanager's webhook, version 4: one event per alert.

Unknown fields are ignored, since newer Alertmanagers add some; missing ones are refused.  Forks and older senders leave out
``fingerprint`` and the alert's own ``status``: then the labels' hash and the group's status stand in.

Alertmanager repeats a firing alert for as long as it lasts.  An event's id is derived from the fingerprint, the status and
the times, so a repetition is the same event and is dropped by the mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from pipeline.sources.formats.body import (
    MalformedBodyError,
    Reception,
    get,
    moment,
    parse_json,
    read_each,
    show,
    texts,
)
from topology.event import Event, Payload
from topology.ids import derived_id
from topology.moments import to_us
from topology.payloads.signals import AlertFired, AlertResolved

SERVICE_LABELS = (
    "service",
    "service_name",
    "job",
    "app",
    "application",
    "deployment",
    "pod",
    "instance",
    "host",
    "node",
)
"""The first of these labels that an alert has names its service; without any, the alert's name does."""

_STATUSES = ("firing", "resolved")
_NAME_CHARS_MAX = 256  # as the payloads' fields allow


def read(raw: bytes, reception: Reception) -> list[Event[Payload]]:
    """The events of one webhook call.

    Raises:
        BadInputError: names the first bad alert and its field; nothing of the body is accepted then.
    """
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise MalformedBodyError(f"a JSON {type(body).__name__}", "Alertmanager's webhook body, an object")
    version = body.get("version")
    if version != "4":
        raise MalformedBodyError(show(version) if "version" in body else "nothing", "'4'", field="version")
    alerts = get(body, "alerts", list)
    return read_each(alerts, lambda alert: _event(alert, body, reception), field="alerts")


def service_of(labels: Mapping[str, str], *, otherwise: str) -> str:
    """The service an alert is about; :data:`SERVICE_LABELS` tells the order."""
    named = next((labels[name] for name in SERVICE_LABELS if labels.get(name)), otherwise)
    return named[:_NAME_CHARS_MAX]


def _event(alert: Any, body: Mapping[str, Any], reception: Reception) -> Event[Payload]:
    if not isinstance(alert, dict):
        raise MalformedBodyError(show(alert), "an object")
    labels = texts(alert, "labels", required=True)
    name = labels.get("alertname")
    if not name:
        raise MalformedBodyError("nothing", "the alert's name", field="labels.alertname")
    status = get(alert, "status", str, body.get("status"))
    if status not in _STATUSES:
        raise MalformedBodyError(show(status), " or ".join(_STATUSES), field="status")
    starts_at = moment(alert.get("startsAt"), field="startsAt")
    ends_at = _end(alert) if status == "resolved" else None
    fingerprint = get(alert, "fingerprint", str, "") or _hash(labels)
    payload = _payload(alert, status, name, labels, fingerprint)
    return Event(
        id=derived_id("alertmanager", fingerprint, to_us(starts_at), status, to_us(ends_at) if ends_at else ""),
        timestamp=(ends_at or reception.at) if status == "resolved" else starts_at,
        source="alertmanager",
        payload=payload,
        metadata=_metadata(body, reception),
    )


def _payload(
    alert: Mapping[str, Any], status: str, name: str, labels: Mapping[str, str], fingerprint: str
) -> AlertFired | AlertResolved:
    annotations = texts(alert, "annotations")
    service = service_of(labels, otherwise=name)
    summary = annotations.get("summary", annotations.get("title", ""))
    if status == "resolved":
        return AlertResolved(service=service, labels=labels, alert=name, fingerprint=fingerprint, summary=summary)
    return AlertFired(
        service=service,
        labels=labels,
        alert=name,
        fingerprint=fingerprint,
        severity=labels.get("severity") or "warning",
        summary=summary,
        description=annotations.get("description", annotations.get("message", "")),
        annotations=annotations,
        link=get(alert, "generatorURL", str, ""),
    )


def _end(alert: Mapping[str, Any]) -> datetime | None:
    """When the alert ended; None for the zero time, with which Alertmanager says that it does not know."""
    if alert.get("endsAt") is None:
        return None
    ends_at = moment(alert["endsAt"], field="endsAt")
    return None if ends_at <= datetime(1, 1, 2, tzinfo=UTC) else ends_at


def _hash(labels: Mapping[str, str]) -> str:
    return sha256(orjson.dumps(labels, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _metadata(body: Mapping[str, Any], reception: Reception) -> dict[str, Any]:
    metadata: dict[str, Any] = {"observed_at": reception.at.isoformat()}
    if group := get(body, "groupKey", str, ""):
        metadata["alert_group"] = group
    if receiver := get(body, "receiver", str, ""):
        metadata["receiver"] = receiver
    if truncated := get(body, "truncatedAlerts", int, 0):
        metadata["truncated_alerts"] = truncated  # so many more of the group were not sent
    return metadata
