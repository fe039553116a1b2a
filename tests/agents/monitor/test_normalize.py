"""Signals of any sender become alike."""

from __future__ import annotations

import pytest

from agents.monitor.normalize import Normalize, NormalizeConfig
from tests.agents.world import event, process
from topology.payloads.signals import AlertFired, HeartbeatSeen, MetricSampled
from topology.spec import ServiceSpec, SystemSpec

CONFIG = NormalizeConfig(systems={"ledger": SystemSpec(services={"ledger-store": ServiceSpec()})})


def heartbeat(service: str, *, system: str = "", labels: dict[str, str] | None = None) -> HeartbeatSeen:
    return HeartbeatSeen(service=service, system=system, labels=labels or {}, healthy=True)


@pytest.mark.parametrize(
    ("signal", "system"),
    [
        (heartbeat("ledger-store", system="something else"), "ledger"),
        (heartbeat("shop", system="web"), "web"),
        (heartbeat("shop", labels={"system": "retail"}), "retail"),
        (heartbeat("shop"), "shop"),
    ],
    ids=["declared", "said by itself", "label", "service"],
)
def test_the_system_is_the_declared_one_else_what_the_signal_says_else_the_service(
    signal: HeartbeatSeen, system: str
) -> None:
    (normal,) = process(Normalize(CONFIG), event(signal))

    assert normal == signal.model_copy(update={"system": system})


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (2.0, "MiB", (2 * 2**20, "By")),
        (3.0, "MB", (3e6, "By")),
        (250.0, "ms", (0.25, "s")),
        (40.0, "percent", (40.0, "%")),
        (7.0, "", (7.0, "1")),
        (7.0, "{requests}", (7.0, "{requests}")),
    ],
)
def test_scaled_units_become_base_units_and_unknown_ones_stay(
    value: float, unit: str, expected: tuple[float, str]
) -> None:
    (normal,) = process(Normalize(), event(MetricSampled(service="shop", metric="m", value=value, unit=unit)))

    assert (normal.value, normal.unit) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("said", "meant"), [("page", "critical"), ("Error", "high"), ("warn", "warning"), ("P9", "warning")]
)
def test_words_for_severity_become_ours(said: str, meant: str) -> None:
    (normal,) = process(Normalize(), event(AlertFired(service="shop", alert="a", fingerprint="f", severity=said)))

    assert normal.severity == meant
