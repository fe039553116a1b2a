"""Changes are announced as CloudEvents to a real door, and kept in the journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from pipeline.patient.loopback import Answer, LoopbackServer, Request, endpoint
from tests.pipeline.patient.bedside import Host
from tests.polling import wait_until


@contextmanager
def _door(port: int = 0, statuses: tuple[int, ...] = ()) -> Iterator[tuple[int, list[Request]]]:
    """A door that keeps what it gets; it answers these statuses first, then 202."""
    received: list[Request] = []
    remaining = list(statuses)

    def respond(request: Request) -> Answer:
        received.append(request)
        return Answer(remaining.pop(0) if remaining else 202, {})

    server = LoopbackServer(port, respond)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield server.server_port, received
    server.shutdown()
    serving.join()
    server.server_close()


def _check(event: dict[str, Any]) -> None:
    assert event["specversion"] == "1.0"
    assert event["type"] == "com.aiops.change.applied"
    assert event["source"]
    assert event["id"]
    assert event["time"].endswith("Z")
    assert event["data"] == {
        "service": "ledger",
        "change": "ledger-configuration-2",
        "kind": "configuration",
        "summary": "fees of the new season",
        "version": 2,
        "previous_version": 1,
        "reversible": True,
    }


def test_a_change_is_posted_to_the_door_as_a_structured_cloud_event(start_host: Callable[..., Host]) -> None:
    with _door(statuses=(503,)) as (port, received):
        host = start_host("--door", f"http://127.0.0.1:{port}/cloudevents?from=patient")
        host.post("/faults/bad-config")
        wait_until(lambda: len(received) >= 2, saying="it is posted again after 503")

    assert received[0].body == received[1].body
    assert received[0].path == "/cloudevents?from=patient"
    assert received[0].headers["Content-Type"] == "application/cloudevents+json"
    _check(received[0].body)
    journal = (host.home / "changes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in journal] == [received[0].body]


def test_changes_wait_in_order_for_a_door_that_opens_later(start_host: Callable[..., Host]) -> None:
    with _door() as (port, _):
        pass
    host = start_host("--door", f"http://127.0.0.1:{port}/cloudevents")
    host.post("/faults/bad-config")
    host.post("/configuration/ledger/rollback")

    with _door(port) as (_, received):
        wait_until(lambda: len(received) >= 2, saying="both changes are posted")

    assert [request.body["data"]["version"] for request in received] == [2, 1]
    assert received[1].body["data"]["summary"] == "back to version 1"


def test_a_change_the_door_refuses_is_not_sent_again_but_logged(start_host: Callable[..., Host]) -> None:
    with _door(statuses=(400,)) as (port, received):
        host = start_host("--door", f"http://127.0.0.1:{port}/")
        host.post("/faults/bad-config")
        wait_until(lambda: "WARN supervisor change not announced" in host.log("supervisor"), saying="it is logged")

    assert len(received) == 1


def test_a_door_must_be_an_http_url() -> None:
    assert endpoint("http://localhost/door") == ("localhost", 80, "/door")
    for url in ("https://localhost/", "localhost:80", "http://"):
        with pytest.raises(ValueError, match="is not an http:// URL"):
            endpoint(url)
