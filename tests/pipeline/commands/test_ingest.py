"""``aiops ingest`` and, at the other end, ``aiops tap``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from pipeline.engine.keys import Keys
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.engine.worker import Worker
from pipeline.loading import load_topology
from tests.pipeline.commands.calling import call, call_json, started
from tests.pipeline.engine.working import running
from tests.polling import eventually, wait_until
from topology.codec import decode
from topology.payloads import AlertFired

ALERTS: dict[str, Any] = {
    "version": "4",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "service": service, "severity": "critical"},
            "annotations": {"summary": f"{service} is down, write to jane@example.com"},
            "startsAt": "2026-03-01T12:00:00Z",
            "fingerprint": service,
        }
        for service in ("web", "store")
    ],
}


@pytest.fixture
def alerts(tmp_path: Path) -> Path:
    file = tmp_path / "alerts.json"
    file.write_bytes(orjson.dumps(ALERTS))
    return file


@pytest.fixture
def mesh_url(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("REDIS_URL", redis_url)
    return redis_url


def test_a_foreign_payload_becomes_events_one_line_each(alerts: Path) -> None:
    result = call("ingest", "alertmanager", alerts)

    assert (result.exit_code, result.stderr) == (0, "")
    events = [decode(line) for line in result.stdout.splitlines()]
    payloads = [event.payload for event in events]
    assert [payload.service for payload in payloads if isinstance(payload, AlertFired)] == ["web", "store"]


def test_standard_input_is_read_and_personal_data_is_masked(alerts: Path) -> None:
    result = call("ingest", "alertmanager", "-", stdin=alerts.read_bytes())

    assert result.exit_code == 0
    assert "[masked:email]" in result.stdout
    assert "jane@" not in result.stdout


def test_one_bad_item_refuses_the_whole_and_says_which(tmp_path: Path) -> None:
    bad = ALERTS | {"alerts": [*ALERTS["alerts"], {"labels": {"alertname": "Down"}, "startsAt": "yesterday"}]}

    result = call("ingest", "alertmanager", "-", stdin=orjson.dumps(bad))

    assert (result.exit_code, result.stdout) == (1, "")
    assert "alerts[2].startsAt: found 'yesterday', expected an RFC 3339 date and time" in result.stderr


def test_events_published_twice_are_on_the_intake_once(alerts: Path, mesh_url: str) -> None:
    assert call_json("ingest", "alertmanager", alerts, "--publish", "--json") == {"accepted": 2, "duplicates": 0}
    assert call("ingest", "alertmanager", alerts, "--publish").stdout == "accepted 0, duplicates 2\n"

    with redis.Redis.from_url(mesh_url) as client:
        assert sum(client.xlen(Keys("aiops").partition(("intake", p))) for p in range(4)) == 2


def test_a_tap_shows_what_is_on_a_stream(alerts: Path, mesh_url: str) -> None:
    call("ingest", "alertmanager", alerts, "--publish")

    lines = call("tap", "intake", "--from-start", "--count", "2").stdout.splitlines()
    encoded = call("tap", "intake", "--from-start", "--count", "2", "--json").stdout.splitlines()

    assert all("alert.fired" in line for line in lines)
    assert {line.split()[2] for line in lines} == {"web", "store"}
    assert {decode(line).event_type for line in encoded} == {"alert.fired"}


def test_a_tap_hears_what_is_said_from_now_on_and_only_what_it_asked_for(
    alerts: Path, tmp_path: Path, mesh_url: str
) -> None:
    heartbeat = {
        "event_type": "heartbeat.seen", "source": "test", "payload": {"service": "web", "healthy": True, "answer": "ok"}
    }  # fmt: skip
    call("ingest", "alertmanager", alerts, "--publish")
    with started("tap", "intake", "--where", "heartbeat.*", "--count", "1", "--json") as tapping:
        # The tap may not listen yet when the first one is published; each posting is a new event.
        wait_until(lambda: _publish(heartbeat) and tapping.poll() is not None, saying="the tap has heard one")
        out, _ = tapping.communicate(timeout=10)

    assert tapping.returncode == 0
    assert [decode(line).event_type for line in out.splitlines()] == ["heartbeat.seen"]


def _publish(event: dict[str, Any]) -> bool:
    return call("ingest", "events", "-", "--publish", stdin=orjson.dumps(event)).exit_code == 0


def test_it_waits_while_a_stage_that_must_not_be_overrun_is_behind(alerts: Path, tmp_path: Path, mesh_url: str) -> None:
    limited = (Path("topology") / "incident_loop.yaml").read_text()
    limited = limited.replace("    retain: 1h\n", "    retain: 1h\n    partitions: 1\n", 1)
    limited = limited.replace("consumes: intake\n", "consumes: {stream: intake, lag_max: 1}\n", 1)
    file = tmp_path / "limited.yaml"
    file.write_text(limited)
    assert call_json("ingest", "alertmanager", alerts, "--publish", "--topology", file, "--json")["accepted"] == 2

    async def work(until: Callable[[], bool]) -> None:
        mesh = RedisMesh.connect(mesh_url, "aiops")
        worker = Worker(mesh, load_topology(file), {}, name="one", stages=["normalize"])
        async with running(worker):
            await eventually(until, saying="there is room")
        await mesh.close()

    more = tmp_path / "more.json"
    more.write_text(
        '{"event_type": "heartbeat.seen", "source": "test", "payload": {"service": "web", "healthy": true}}'
    )
    with started("ingest", "events", more, "--publish", "--topology", file) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert "2 events of partition 0 wait for normalize, which allows 1; waiting until there is room" in said
        asyncio.run(work(lambda: waiting.poll() is not None))
        out, _ = waiting.communicate(timeout=10)
    assert (waiting.returncode, out) == (0, "accepted 1, duplicates 0\n")


def test_an_entry_that_is_no_event_is_told_of_and_passed_over(alerts: Path, mesh_url: str) -> None:
    with redis.Redis.from_url(mesh_url) as client:
        client.xadd(Keys("aiops").partition(("intake", 0)), {"k": "x", "t": "alert.fired", "e": "garbage"})
    call("ingest", "alertmanager", alerts, "--publish")

    result = call("tap", "intake", "--from-start", "--count", "2", "--json")

    assert len([decode(line) for line in result.stdout.splitlines()]) + result.stderr.count("cannot be decoded") == 2
    assert "intake/0" in result.stderr


def test_a_type_that_nothing_has_is_refused(mesh_url: str) -> None:
    result = call("tap", "intake", "--where", "metric.sample")

    assert result.exit_code == 2
    assert "metric.sampled" in result.stderr


def test_only_what_a_condition_holds_for_is_shown(mesh_url: str, alerts: Path) -> None:
    call("ingest", "alertmanager", alerts, "--publish")
    everything = [decode(said) for said in _tapped("alert.*")]
    fired = [each for each in everything if each.event_type == "alert.fired"]
    assert fired
    alert = fired[0].payload.alert  # type: ignore[attr-defined]

    shown = [decode(said) for said in _tapped(f"payload.alert == '{alert}' and event_type == 'alert.fired'", 1)]

    assert [each.id for each in shown] == [fired[0].id]


def _tapped(where: str, count: int = 2) -> list[bytes]:
    result = call("tap", "intake", "--from-start", "--where", where, "--count", str(count), "--json")
    return [said.encode() for said in result.stdout.splitlines()]


def test_a_condition_that_fits_nothing_on_the_stream_is_refused(mesh_url: str) -> None:
    result = call("tap", "intake", "--where", "payload.alrt == 'x'")
    assert result.exit_code == 2
    assert "did you mean alert?" in result.stderr

    result = call("tap", "intake", "--where", "payload.alert = 'x'")
    assert result.exit_code == 2
    assert "expected a comparison such as" in result.stderr


def test_events_wait_on_embedded_servers_for_the_next_run(
    alerts: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOPS_STATE_DIR", str(state_dir))

    assert call_json("ingest", "alertmanager", alerts, "--publish", "--json")["accepted"] == 2
    assert call_json("stop", "--json")["state_dir"] == str(state_dir)
    assert len(call("tap", "intake", "--from-start", "--count", "2").stdout.splitlines()) == 2
