"""The command where REDIS_URL names a node of a Redis Cluster."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from pipeline.recordings.reader import Recording
from tests.pipeline.commands.calling import call, call_json, started
from topology.codec import decode
from topology.payloads import IncidentOpened

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(autouse=True)
def on_a_cluster(cluster_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", cluster_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AIOPS_NAMESPACE", f"t{uuid4().hex[:8]}")
    monkeypatch.setenv("AIOPS_LEASE_S", "1")


def alerts(*services: str) -> bytes:
    fired = [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "service": service, "severity": "critical"},
            "annotations": {"summary": f"{service} is down"},
            "startsAt": "2026-03-01T12:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": service,
        }
        for service in services
    ]
    return orjson.dumps({"version": "4", "receiver": "x", "status": "firing", "alerts": fired})


def test_workers_open_incidents_once_also_when_one_of_them_is_killed() -> None:
    services = [f"service-{n}" for n in range(12)]
    with started("worker") as doomed:
        assert (
            call_json("ingest", "alertmanager", "-", "--publish", "--json", stdin=alerts(*services[:6]))["accepted"]
            == 6
        )
        assert incidents(6) == services[:6]
        call("ingest", "alertmanager", "-", "--publish", stdin=alerts(*services[6:9]))
        doomed.kill()
    with started("worker"):
        call("ingest", "alertmanager", "-", "--publish", stdin=alerts(*services[9:]))
        assert incidents(12) == sorted(services)

    found = {each["subject"]: each for each in orjson.loads(call("doctor", "--json").stdout)["found"]}
    assert "cluster" in found["redis answers"]["what"]
    assert found["redis data"]["status"] == "ok"


def test_what_lies_on_all_nodes_is_recorded_in_one_order(tmp_path: Path) -> None:
    for first in (0, 6):
        services = [f"service-{n}" for n in range(first, first + 6)]
        call("ingest", "alertmanager", "-", "--publish", stdin=alerts(*services))
    report = call_json("record", "--out", tmp_path / "a.recording", "--json")
    assert report["counts"]["intake"] == 12
    records = list(Recording(tmp_path / "a.recording").records())
    assert len({record.partition for record in records}) > 1
    assert {record.key for record in records[:6]} == {f"service-{n}" for n in range(6)}


def incidents(count: int) -> list[str]:
    """The systems of the first so many incidents that were opened."""
    with started(
        "tap", "incidents", "--from-start", "--where", "incident.opened", "--count", str(count), "--json"
    ) as tapping:
        out, _ = tapping.communicate(timeout=40)
    opened = [decode(line).payload for line in out.splitlines()]
    assert all(isinstance(each, IncidentOpened) for each in opened)
    return sorted(each.system for each in opened if isinstance(each, IncidentOpened))
