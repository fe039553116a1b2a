"""Hands do exactly what was asked, once, and nothing else."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.ports import ExecuteAction
from pipeline.executors import Executors
from pipeline.executors.supervisor import ConfigurationExecutor, ProcessExecutor, SupervisorClient
from pipeline.executors.webhook import WebhookExecutor
from pipeline.patient.ward import Patient, admit
from topology.errors import RetryableError
from topology.payloads import ActionRequest


def ask(
    executor: str, operation: str, target: str = "ledger", *, key: str = "k", dry: bool = False, **parameters: Any
) -> ExecuteAction:
    request = ActionRequest(executor=executor, operation=operation, target=target, parameters=parameters)
    return ExecuteAction(request=request, idempotency_key=key, dry_run=dry)


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[Patient]:
    async with admit(tmp_path / "home") as patient:
        yield patient


@pytest.fixture
async def hands(patient: Patient) -> AsyncIterator[Executors]:
    client = SupervisorClient(patient.info.control_url, patient.info.token)
    executors = Executors([ProcessExecutor(client), ConfigurationExecutor(client)])
    yield executors
    await executors.close()


async def pids(patient: Patient) -> dict[str, int | None]:
    return {unit.name: unit.pid for unit in await patient.units()}


async def test_a_restart_under_one_key_is_done_once(patient: Patient, hands: Executors) -> None:
    before = (await pids(patient))["ledger"]
    first = await hands.answer(ask("process", "restart", key="a"))
    between = (await pids(patient))["ledger"]
    again = await hands.answer(ask("process", "restart", key="a"))

    assert first == again
    assert first.status == "succeeded"
    assert first.undo is None, "nothing takes a restart back"
    assert before != between == (await pids(patient))["ledger"]


async def test_what_was_stopped_can_be_started_by_the_undo(patient: Patient, hands: Executors) -> None:
    stopped = await hands.answer(ask("process", "stop", "ledger-store", key="a"))
    assert (await pids(patient))["ledger-store"] is None
    assert stopped.undo is not None

    undone = await hands.answer(ExecuteAction(request=stopped.undo, idempotency_key="b"))
    assert undone.status == "succeeded"
    assert (await pids(patient))["ledger-store"] is not None


async def test_a_rollback_says_which_version_takes_it_back(patient: Patient, hands: Executors) -> None:
    await patient.fault("bad-config")
    rolled_back = await hands.answer(ask("configuration", "rollback", key="a"))
    assert rolled_back.status == "succeeded"
    assert rolled_back.undo == ActionRequest(
        executor="configuration", operation="set", target="ledger", parameters={"version": 2}
    )
    assert (await hands.answer(ExecuteAction(request=rolled_back.undo, idempotency_key="b"))).status == "succeeded"


async def test_a_dry_run_changes_nothing_and_says_what_it_would_do(patient: Patient, hands: Executors) -> None:
    before = await pids(patient)
    report = await hands.answer(ask("process", "restart", dry=True))
    assert report.status == "refused"
    assert "restart the unit ledger" in report.detail
    assert await pids(patient) == before


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (ask("shell", "run"), "expected one that is set up here: configuration, process"),
        (ask("process", "format-disk"), "only kill, restart, start, stop"),
        (ask("process", "restart", "somebody-else"), "404"),
        (ask("process", "restart", "../faults/crash"), "40"),
    ],
)
async def test_what_nobody_can_do_is_refused_with_the_reason(
    hands: Executors, question: ExecuteAction, reason: str
) -> None:
    report = await hands.answer(question)
    assert report.status == "refused"
    assert reason in report.detail


async def test_a_supervisor_that_is_away_can_be_asked_again() -> None:
    hands = Executors([ProcessExecutor(SupervisorClient("http://127.0.0.1:9", "token"))])
    with pytest.raises(RetryableError, match="did not answer"):
        await hands.answer(ask("process", "restart"))
    await hands.close()


class _Receiver(BaseHTTPRequestHandler):
    status = 200
    taken: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        del format, args


@pytest.fixture
def receiver() -> Iterator[type[_Receiver]]:
    class Receiver(_Receiver):
        taken: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012 - one list per test
        url = ""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Receiver.url = f"http://127.0.0.1:{server.server_address[1]}/repair"
    yield Receiver
    server.shutdown()
    server.server_close()


async def test_a_webhook_is_signed_and_carries_the_key(receiver: Any) -> None:
    hands = Executors([WebhookExecutor(allowed_hosts=["127.0.0.1"], secret="s3cret")])
    report = await hands.answer(ask("webhook", "post", key="key-1", url=receiver.url))
    await hands.close()

    assert report.status == "succeeded"
    [(headers, body)] = receiver.taken
    assert headers["idempotency-key"] == "key-1"
    assert headers["x-aiops-signature"] == f"sha256={hmac.new(b's3cret', body, sha256).hexdigest()}"
    assert json.loads(body)["request"]["target"] == "ledger"


@pytest.mark.parametrize(
    "url", ["http://localhost.evil.example/x", "file:///etc/passwd", "http://127.0.0.1@evil.example/", ""]
)
async def test_a_webhook_calls_nobody_who_is_not_on_the_list(url: str) -> None:
    hands = Executors([WebhookExecutor(allowed_hosts=["127.0.0.1"], secret="s3cret")])
    report = await hands.answer(ask("webhook", "post", url=url))
    await hands.close()
    assert report.status == "refused"
    assert "expected" in report.detail


async def test_a_receiver_in_trouble_is_asked_again_and_one_that_says_no_is_not(receiver: Any) -> None:
    hands = Executors([WebhookExecutor(allowed_hosts=["127.0.0.1"], secret="s3cret")])
    receiver.status = 503
    with pytest.raises(RetryableError, match="503"):
        await hands.answer(ask("webhook", "post", url=receiver.url))
    receiver.status = 409
    assert (await hands.answer(ask("webhook", "post", url=receiver.url))).status == "refused"
    await hands.close()
