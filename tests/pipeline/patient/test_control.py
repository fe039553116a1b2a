"""The control API: who may use it, what it refuses, and that a key is obeyed once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.patient.loopback import ask
from tests.pipeline.patient.bedside import Host


def test_without_the_token_nothing_is_answered(host: Host) -> None:
    assert host.control("GET", "/units", token="wrong").status == 401
    port = int(host.registered["control_url"].rpartition(":")[2])
    assert ask(port, "POST", "/faults/crash", timeout_s=5).status == 401
    assert host.unit("ledger")["state"] == "running"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/nonsense", None, 404, "unknown"),
        ("POST", "/units/postgres/restart", None, 404, "ledger-store, ledger, ledger-report"),
        ("POST", "/units/ledger/explode", None, 404, "start, stop, restart, kill"),
        ("GET", "/configuration/ledger-store", None, 404, "has no configuration"),
        ("POST", "/configuration/ledger", {"version": 4711}, 404, "no version 4711"),
        ("POST", "/configuration/ledger", {"version": "1"}, 400, "expected a number"),
        ("POST", "/configuration/ledger", {"version": True}, 400, "expected a number"),
        ("POST", "/configuration/ledger/revolve", None, 404, "unknown"),
        ("POST", "/configuration/ledger", {"filler": "x" * 70_000}, 413, "at most"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    host: Host, method: str, path: str, body: dict[str, object] | None, status: int, said: str
) -> None:
    refused = host.control(method, path, body)

    assert refused.status == status
    assert said in refused.document["error"]


def test_operations_are_idempotent(host: Host) -> None:
    running = host.unit("ledger")
    assert host.post("/units/ledger/start") == running

    stopped = host.post("/units/ledger/stop")
    assert (stopped["state"], stopped["exit_code"]) == ("stopped", 0)
    assert host.post("/units/ledger/stop") == stopped
    assert host.post("/units/ledger/kill") == stopped

    assert host.post("/units/ledger/start")["state"] == "running"
    killed = host.post("/units/ledger/kill")
    assert (killed["state"], killed["exit_code"]) == ("stopped", 137)


def test_the_same_key_is_obeyed_once_even_when_sent_at_the_same_time(host: Host) -> None:
    with ThreadPoolExecutor(4) as senders:
        answers = list(senders.map(lambda _: host.post("/units/ledger/restart", key="once-1"), range(4)))

    assert len({answer["pid"] for answer in answers}) == 1
    assert host.unit("ledger")["pid"] == answers[0]["pid"]
    assert host.post("/units/ledger/restart", key="once-2")["pid"] != answers[0]["pid"]


def test_a_key_used_for_another_request_is_refused(host: Host) -> None:
    host.post("/units/ledger/start", key="taken")

    refused = host.control("POST", "/units/ledger/stop", key="taken")

    assert refused.status == 422
    assert host.unit("ledger")["state"] == "running"
    assert host.control("POST", "/units/ledger/start", key="k" * 201).status == 400


def test_a_key_is_remembered_over_a_restart_of_the_host(start_host: Callable[..., Host]) -> None:
    first = start_host()
    first.post("/faults/bad-config")
    rolled_back = first.post("/configuration/ledger/rollback", key="undo-the-change")
    refused = first.control("POST", "/configuration/ledger/rollback", key="too-far")
    first.kill()

    second = start_host()

    assert second.post("/configuration/ledger/rollback", key="undo-the-change") == rolled_back
    assert second.control("POST", "/configuration/ledger/rollback", key="too-far") == refused
    assert second.control("GET", "/configuration/ledger").document["version"] == 1


def test_a_rollback_can_be_undone_and_the_first_version_has_nothing_before_it(start_host: Callable[..., Host]) -> None:
    host = start_host()
    host.post("/faults/bad-config")
    undo = host.post("/configuration/ledger/rollback")["undo"]

    refused = host.control("POST", "/configuration/ledger/rollback")
    assert refused.status == 409
    assert "is the first" in refused.document["error"]

    assert host.post("/configuration/ledger", undo)["undo"] == {"version": 1}
    assert host.health().status == 500
    assert host.control("GET", "/configuration/ledger").document["previous_versions"] == [1]


def test_a_rollback_tells_when_the_service_did_not_take_the_version_over(host: Host) -> None:
    host.post("/faults/bad-config")
    host.post("/faults/hang")

    assert host.post("/configuration/ledger/rollback")["loaded"] is False

    host.post("/units/ledger/restart")
    assert host.health().status == 200
