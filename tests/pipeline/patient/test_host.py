"""The host's life: what it leaves behind (nothing), what it remembers, what it costs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.patient.host import EXIT_OCCUPIED
from pipeline.patient.unit import bare_environment, interpreter
from tests.pipeline.patient.bedside import Host, memory_mb, processes_of
from tests.polling import wait_until


def test_closing_its_standard_input_ends_everything_soon(start_host: Callable[..., Host], tmp_path: Path) -> None:
    host = start_host()
    host.post("/faults/eater")
    host.post("/faults/hang")
    assert len(processes_of(tmp_path)) == 4

    began = time.monotonic()
    host.stop()

    assert time.monotonic() - began < 10
    assert host.process.returncode == 0
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "home" / "patient.json").exists()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_an_orderly_way(
    start_host: Callable[..., Host], tmp_path: Path, signal_number: signal.Signals
) -> None:
    host = start_host()

    host.process.send_signal(signal_number)
    host.process.send_signal(signal_number)

    assert host.process.wait(2) == 0
    assert processes_of(tmp_path) == []


def test_killing_the_host_leaves_nothing_running_not_even_a_hung_or_a_stopped_unit(
    start_host: Callable[..., Host], tmp_path: Path
) -> None:
    host = start_host()
    host.post("/faults/eater")
    host.post("/faults/hang")
    processes = {process.name(): process for process in processes_of(tmp_path)}
    if sys.platform == "linux":  # elsewhere only the lifeline ends a unit, and a stopped one cannot read it
        processes["ledger-store"].suspend()

    host.kill()

    wait_until(lambda: not processes_of(tmp_path), saying="all units are gone", within_s=2)


def test_killing_the_one_who_started_the_host_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "host = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
            "time.sleep(60)\n",
            *interpreter(),
            *("-m", "pipeline.patient.host", "--home", str(home)),
        ],
        env=bare_environment(),
        start_new_session=True,
    )
    try:
        wait_until((home / "patient.json").exists, saying="the host is ready")
    finally:
        starter.kill()
        starter.wait()

    wait_until(lambda: not processes_of(home), saying="host and units are gone", within_s=2)


def test_a_second_host_in_the_same_home_is_refused_and_harms_nothing(host: Host) -> None:
    second = subprocess.run(
        [*interpreter(), "-m", "pipeline.patient.host", "--home", str(host.home)],
        capture_output=True,
        text=True,
        env=bare_environment(),
        check=False,
    )

    assert second.returncode == EXIT_OCCUPIED
    assert f"already lives in {host.home} (process {host.process.pid})" in second.stderr
    assert host.health().status == 200


def test_a_bad_version_and_what_is_wanted_survive_the_host(start_host: Callable[..., Host]) -> None:
    first = start_host()
    first.post("/faults/bad-config")
    first.post("/units/ledger-store/stop")
    first.post("/units/ledger-report/start")
    first.kill()

    second = start_host()

    assert second.control("GET", "/configuration/ledger").document["version"] == 2
    assert second.unit("ledger-store")["state"] == "stopped"
    assert second.unit("ledger-report")["state"] == "running"
    second.post("/faults/heal")
    assert second.health().status == 200


def test_what_fell_without_being_asked_to_is_up_again_after_a_restart_of_the_host(
    start_host: Callable[..., Host],
) -> None:
    first = start_host()
    first.post("/faults/backend-lost")
    first.stop()

    assert start_host().unit("ledger-store")["state"] == "running"


def test_its_registration_is_private_and_names_the_processes_of_now(host: Host) -> None:
    file = host.home / "patient.json"
    assert file.stat().st_mode & 0o777 == 0o600

    restarted = host.post("/units/ledger/restart")

    wait_until(lambda: host.registered["pids"]["ledger"] == restarted["pid"], saying="the new process is registered")
    assert "ledger-report" not in host.registered["pids"]


def test_a_unit_keeps_its_address_over_restarts(host: Host) -> None:
    ports = host.registered["ports"]

    host.post("/units/ledger/kill")
    assert "refused" in host.health().page["error"]
    host.post("/units/ledger/start")
    host.post("/units/ledger-store/restart")

    assert host.registered["ports"] == ports
    assert host.health().status == 200


def test_nothing_restarts_by_itself(host: Host) -> None:
    host.post("/faults/crash")

    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: host.unit("ledger")["state"] == "running", saying="it came back", within_s=1)


def test_a_unit_that_cannot_start_is_reported_with_where_to_look(start_host: Callable[..., Host]) -> None:
    host = start_host()
    host.post("/units/ledger/stop")
    (host.home / "ledger.json").write_text("{", encoding="utf-8")

    refused = host.control("POST", "/units/ledger/start")

    assert refused.status == 500
    assert "ledger.log" in refused.document["error"]
    assert "JSONDecodeError" in host.log("ledger")
    assert host.unit("ledger")["state"] != "running"


def test_every_process_is_small_and_knows_no_secret_of_its_owner(host: Host) -> None:
    host.post("/units/ledger-report/start")

    for process in processes_of(host.home):
        assert memory_mb(process.pid) < 28, process.name()
        assert set(process.environ()) <= {"PATH", "TMPDIR", "PYTHONPATH", "LC_ALL", "LC_CTYPE"}


def test_it_starts_quickly(start_host: Callable[..., Host]) -> None:
    began = time.monotonic()

    host = start_host()

    # Host, store and web one after the other; generous, because the machine that tests may be busy.
    assert time.monotonic() - began < 15
    assert host.health().status == 200
