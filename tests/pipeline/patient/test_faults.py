"""Each fault shows its symptom; the right repair cures it; the tempting wrong one does not."""

from __future__ import annotations

from tests.pipeline.patient.bedside import Health, Host, memory_mb
from tests.polling import wait_until


def _wait_until_well(host: Host) -> None:
    wait_until(lambda: _is_well(host.health()), saying="the health page is 200 and quick", within_s=5, seen=host.health)


def _is_well(health: Health) -> bool:
    return health.status == 200 and health.took_ms < 150


def test_a_patient_that_is_well_answers_quickly_and_serves_its_customers(host: Host) -> None:
    _wait_until_well(host)

    health = host.health()
    assert health.page["status"] == "ok"
    assert health.page["store_ms"] < 150
    before = host.control("GET", "/traffic").document["transfers"]
    wait_until(
        lambda: host.control("GET", "/traffic").document["transfers"] >= before + 5,
        saying="five customers are served in about a second",
        within_s=3,
    )
    assert host.control("GET", "/traffic").document["failed_in_a_row"] == 0


def test_a_crash_is_a_real_one_and_restarting_cures_it(host: Host) -> None:
    host.post("/faults/crash")

    unit = host.unit("ledger")
    assert (unit["state"], unit["exit_code"], unit["pid"]) == ("failed", 139, None)
    assert "ERROR supervisor unit ledger exited with status 139 (SIGSEGV)" in host.log("supervisor")
    assert "refused" in host.health().page["error"], "connections must be refused, a crash is not a hang"

    host.post("/units/ledger/restart")

    _wait_until_well(host)


def test_a_hung_service_takes_connections_answers_nobody_and_ignores_term_but_not_kill(host: Host) -> None:
    host.post("/faults/hang")

    # What is asked in the moment the fault takes hold may still be answered.
    wait_until(lambda: "timed out" in host.health().page.get("error", ""), saying="nobody is answered")
    assert host.unit("ledger")["state"] == "running"

    stopped = host.post("/units/ledger/stop")
    assert stopped["exit_code"] == 137, "TERM must not have been enough"

    host.post("/units/ledger/start")
    _wait_until_well(host)


def test_a_restart_cures_a_hang(host: Host) -> None:
    host.post("/faults/hang")
    hung = host.unit("ledger")["pid"]

    restarted = host.post("/units/ledger/restart")

    assert restarted["state"] == "running"
    assert restarted["pid"] != hung
    _wait_until_well(host)


def test_a_leak_takes_real_memory_while_the_service_goes_on_and_a_restart_frees_it(host: Host) -> None:
    pid = host.unit("ledger")["pid"]
    before_mb = memory_mb(pid)
    host.post("/faults/leak")

    wait_until(
        lambda: memory_mb(pid) > before_mb + 60,
        saying="60 MB more within 3 s, at about 40 MB/s",
        within_s=3,
        seen=lambda: memory_mb(pid) - before_mb,
    )
    assert host.health().status == 200

    restarted = host.post("/units/ledger/restart")

    assert memory_mb(restarted["pid"]) < before_mb + 10


def test_a_bad_configuration_survives_restarts_and_is_cured_by_rolling_back(host: Host) -> None:
    good = host.control("GET", "/configuration/ledger").document["version"]
    host.post("/faults/bad-config")

    failing = host.health()
    assert failing.status == 500
    assert "ValueError" in failing.page["reason"]
    bad = host.control("GET", "/configuration/ledger").document
    assert bad["version"] > good
    assert bad["previous_versions"][0] == good
    wait_until(
        lambda: "ERROR ledger transfer failed status=500" in host.log("ledger"), saying="customers' failures are logged"
    )
    assert "Traceback (most recent call last):\n" in host.log("ledger")

    host.post("/units/ledger/restart")
    assert host.health().status == 500, "a restart must not cure it"

    rolled_back = host.post("/configuration/ledger/rollback")

    assert rolled_back["version"] == good
    assert rolled_back["undo"] == {"version": bad["version"]}
    assert rolled_back["loaded"] is True
    _wait_until_well(host)


def test_the_eater_slows_the_service_until_it_is_stopped_and_a_restart_of_the_service_does_not_help(host: Host) -> None:
    host.post("/faults/eater")

    def slow() -> bool:
        health = host.health()
        return health.status == 200 and 250 < health.took_ms < 900

    wait_until(slow, saying="the health page takes 300 to 450 ms, below time-outs", within_s=3, seen=host.health)
    assert host.health("ledger-store").page["holders"]["ledger-report"] >= 1

    host.post("/units/ledger/restart")
    assert slow()
    assert slow()
    host.post("/units/ledger-store/restart")
    wait_until(slow, saying="restarting the store does not help either", within_s=3, seen=host.health)

    host.post("/units/ledger-report/stop")

    _wait_until_well(host)


def test_a_lost_backend_is_reported_by_the_service_and_only_starting_the_backend_helps(host: Host) -> None:
    host.post("/faults/backend-lost")

    assert host.unit("ledger-store")["exit_code"] == 137
    assert host.health().status == 503
    wait_until(lambda: "ERROR ledger store unreachable" in host.log("ledger"), saying="customers' failures are logged")

    host.post("/units/ledger/restart")
    assert host.health().status == 503

    host.post("/units/ledger-store/start")

    _wait_until_well(host)


def test_faults_are_not_visible_by_name_in_any_log(host: Host) -> None:
    for fault in ("crash", "hang", "leak", "bad-config", "eater", "backend-lost"):
        if fault in ("hang", "leak"):
            host.post("/faults/heal")
        host.post(f"/faults/{fault}")
    host.post("/faults/heal")

    logs = "".join(host.log(name) for name in host.registered["logs"])
    for word in ("fault", "leak", "eater", "bad-config", "backend-lost", "deadlock", "heal "):
        assert word not in logs


def test_healing_cures_everything_at_once(host: Host) -> None:
    for fault in ("eater", "bad-config", "backend-lost", "crash"):
        host.post(f"/faults/{fault}")

    assert host.post("/faults/heal") == {"healed": True}

    _wait_until_well(host)
    assert host.unit("ledger-report")["state"] == "stopped"


def test_a_fault_that_cannot_happen_is_refused_with_the_reason(host: Host) -> None:
    assert host.control("POST", "/faults/plague").status == 404
    host.post("/units/ledger/stop")

    refused = host.control("POST", "/faults/crash")

    assert refused.status == 409
    assert "ledger is stopped" in refused.document["error"]
