"""Take over the alerts of other monitoring tools as findings."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tables.keyed import Keyed
from topology.agent import Agent, World
from topology.event import Event
from topology.payloads.findings import AnomalyCleared, AnomalyDetected, Severity
from topology.payloads.signals import AlertFired, AlertResolved

Noticed = AnomalyDetected | AnomalyCleared

_SEVERITIES: tuple[Severity, ...] = ("info", "warning", "high", "critical")
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


class AlertWatcher(Agent[AlertFired | AlertResolved, Noticed]):
    """Finds ``alert.<name>``, whose subject is the alert's fingerprint.

    Tools repeat an alert while it lasts; a finding is made of the first, and of one that has become more severe.

    Remembers: the severity of each alert that has not been resolved.
    """

    firing = Keyed("firing", value=str)

    def process(self, event: Event[AlertFired | AlertResolved], world: World) -> Iterable[Noticed]:
        """An alert's begin, repetition or end in; what is news out."""
        del world
        alert = event.payload
        key = f"{alert.service}|{alert.fingerprint}"
        known = self.firing.get(key)
        if isinstance(alert, AlertResolved):
            if known is not None:
                self.firing.delete(key)
                yield _resolved(alert, _severity(known), event)
            return
        severity = _severity(alert.severity)
        if known is None or _SEVERITIES.index(severity) > _SEVERITIES.index(_severity(known)):
            self.firing.put(key, severity)
            yield AnomalyDetected(
                service=alert.service,
                system=alert.system,
                kind=_kind(alert.alert),
                subject=alert.fingerprint,
                severity=severity,
                summary=alert.summary or alert.description or alert.alert,
                evidence=(event.id,),
            )


def _resolved(alert: AlertResolved, severity: Severity, event: Event[AlertFired | AlertResolved]) -> AnomalyCleared:
    return AnomalyCleared(
        service=alert.service,
        system=alert.system,
        kind=_kind(alert.alert),
        subject=alert.fingerprint,
        severity=severity,
        summary=f"over: {alert.summary or alert.alert}",
        evidence=(event.id,),
    )


def _kind(alert: str) -> str:
    return f"alert.{_NOT_A_WORD.sub('-', alert.lower()).strip('-') or 'unnamed'}"


def _severity(text: str) -> Severity:
    return next((severity for severity in _SEVERITIES if severity == text), "warning")
