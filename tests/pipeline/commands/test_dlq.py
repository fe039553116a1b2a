"""``aiops dlq``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.ports import ExecuteAction
from pipeline.commands import dlq
from pipeline.engine.drive import Driver
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.counting import Echo, line
from tests.contracts.mending import release
from tests.pipeline.commands.calling import call, call_json
from topology.payloads import AnomalyDetected

pytestmark = pytest.mark.servers

TOPOLOGY = """
name: mending
streams:
  signals: {carries: [LogWritten], partitions: 2}
  numbered: {carries: [AnomalyDetected], partitions: 2}
  answered: {carries: [AnomalyDetected], partitions: 2}
stages:
  - {id: number, agent: "tests.contracts.mending:Number", consumes: signals, emits: numbered}
  - {id: ask, agent: "tests.contracts.mending:AskAndNumber", consumes: signals, emits: answered}
"""


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "mending.yaml"
    path.write_text(TOPOLOGY)
    return path


@pytest.fixture
def letters(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Line 2 of a was too hard for both stages, so line 3 waits."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    run(redis_url, [("a", "info"), ("a", "error"), ("a", "info"), ("b", "info")], mended=False)
    return redis_url


def run(url: str, said: list[tuple[str, str]], *, mended: bool) -> list[tuple[str, float | None]]:
    """Publish lines and work them off; what the first stage has numbered of a so far."""

    async def work() -> list[tuple[str, float | None]]:
        mesh = RedisMesh.connect(url)
        driver = Driver(release(mended=mended), {ExecuteAction: Echo()}, mesh=mesh)
        await driver.publish("signals", [line(n, key, n, level=level) for n, (key, level) in enumerate(said, start=1)])
        await driver.run_until_idle()
        findings = [event.payload for event in await driver.events("numbered")]
        await mesh.close()
        return [(f.subject, f.value) for f in findings if isinstance(f, AnomalyDetected) and f.service == "a"]

    return asyncio.run(work())


@contextmanager
def a_worker(url: str, *, mended: bool = True) -> Iterator[None]:
    """Somebody works, beside the command."""
    stopped = threading.Event()

    async def work() -> None:
        mesh = RedisMesh.connect(url)
        driver = Driver(release(mended=mended), {ExecuteAction: Echo()}, mesh=mesh)
        while not stopped.is_set():
            await driver.run_until_idle()
            await asyncio.sleep(0.01)
        await mesh.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def listed() -> list[tuple[str, str, int]]:
    groups: list[dict[str, Any]] = call_json("dlq", "list", "--json")
    return [(group["stage"], group["key"], group["count"]) for group in groups]


def test_without_letters_it_says_so(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert call("dlq", "list").stdout == "no dead letters\n"
    assert listed() == []


def test_letters_are_listed_by_stage_and_key_with_the_first_reason(letters: str) -> None:
    assert sorted(listed()) == [("ask", "a", 2), ("number", "a", 2)]
    lines = call("dlq", "list", "--stage", "number").stdout.splitlines()
    assert len(lines) == 1
    assert "2 letters" in lines[0]
    assert "PoisonedEventError: error is too hard" in lines[0]
    assert call("dlq", "list", "--key", "b").stdout == "no dead letters\n"


def test_a_letter_is_shown_whole(letters: str) -> None:
    [group] = call_json("dlq", "list", "--stage", "ask", "--json")
    letter = call_json("dlq", "show", group["ids"][0][:8], "--json")
    assert letter["event"]["payload"]["message"] == "line 2"
    assert (letter["stage"], letter["key"], letter["reason"]) == ("ask", "a", "error is too hard")

    shown = call("dlq", "show", group["ids"][1]).stdout
    assert '"message": "line 3"' in shown
    assert "KeyParked" in shown


def test_a_replay_releases_the_key_and_says_how_many_it_were(letters: str, topology: Path) -> None:
    with a_worker(letters):
        result = call("dlq", "replay", "--stage", "number", "--key", "a", "--topology", topology)
        assert result.stdout == "replayed: 2 letters\n"
        assert call_json("dlq", "replay", "--all", "--topology", topology, "--json")["replayed"] == 2
    assert listed() == []
    assert run(letters, [], mended=True) == [("line 1", 1), ("line 2", 2), ("line 3", 3)]


def test_what_fails_again_is_said(letters: str, topology: Path) -> None:
    with a_worker(letters, mended=False):
        result = call("dlq", "replay", "--stage", "number", "--topology", topology)
    assert result.stdout == "replayed: 2 letters\n2 letters failed again: `aiops dlq list` says why\n"
    assert sorted(listed()) == [("ask", "a", 2), ("number", "a", 2)]


def test_the_poison_is_dropped_and_the_rest_replayed(letters: str, topology: Path) -> None:
    [group] = call_json("dlq", "list", "--stage", "number", "--json")
    poison, waiting = group["ids"]
    with a_worker(letters, mended=False):
        refused = call("dlq", "replay", "--id", waiting, "--topology", topology)
        assert refused.exit_code == 2
        assert "replay the whole key with --key a" in refused.stderr
        assert call("dlq", "drop", "--id", poison, "--topology", topology).stdout == "dropped: 1 letter\n"
        assert call("dlq", "replay", "--id", waiting, "--topology", topology).stdout == "replayed: 1 letter\n"
    assert run(letters, [], mended=True) == [("line 1", 1), ("line 3", 2)]


def test_without_a_worker_it_says_when_it_will_be_done(
    letters: str, topology: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlq, "ANSWER_WITHIN_S", 0.1)
    result = call("dlq", "drop", "--stage", "number", "--topology", topology)
    assert result.exit_code == 0
    assert "no worker has answered" in result.stderr
    assert run(letters, [], mended=True) == [("line 1", 1)]
    assert listed() == [("ask", "a", 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("replay",), "found nothing that says which letters"),
        (("drop",), "found nothing that says which letters"),
        (("show", "ffff"), "found no open dead letter"),
        (("show", ""), "give more of the id"),
        (("replay", "--stage", "nobody", "--key", "a"), "found stage 'nobody'"),
        (("replay", "--stage", "nobody"), "found stage 'nobody'"),
    ],
)
def test_what_nobody_can_mean_is_refused(letters: str, arguments: tuple[str, ...], message: str) -> None:
    result = call("dlq", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
