"""The whole product: real servers, a real service that breaks, one command."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.run.running import aiops_run, events_on, nothing_is_left

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_fault_is_repaired_verified_and_learned_from(state_dir: Path) -> None:
    with aiops_run(state_dir, "--with-patient", "--once", "--faults", "crash") as run:
        report = run.report(within_s=180)
    nothing_is_left(state_dir)

    [met] = report["faults"]
    assert met["verified"]
    assert met["detected_after_s"] < 2
    assert (met["attempts"], met["recalled"], report["dead_letters"]) == (1, False, 0)


@pytest.mark.long
def test_faults_are_repaired_and_the_second_time_recalled(state_dir: Path) -> None:
    with aiops_run(state_dir, "--with-patient", "--once", "--faults", "crash,bad-config") as run:
        first = run.report(within_s=180)
    nothing_is_left(state_dir)
    with aiops_run(state_dir, "--with-patient", "--once", "--faults", "bad-config,crash") as run:
        again = run.report(within_s=180)

    met = {fault["fault"]: fault for fault in first["faults"]}
    known = {fault["fault"]: fault for fault in again["faults"]}
    assert all(fault["verified"] for fault in [*met.values(), *known.values()])
    assert met["crash"]["detected_after_s"] < 2
    assert (met["crash"]["attempts"], met["crash"]["recalled"]) == (1, False)
    # A restart is tried first, does not help, and is rejected; then the change is taken back.
    assert (met["bad-config"]["attempts"], met["bad-config"]["solution"]) == (2, "roll-back-change")
    assert all((fault["attempts"], fault["recalled"]) == (1, True) for fault in known.values())
    assert known["bad-config"]["verified_after_s"] < met["bad-config"]["verified_after_s"]
    assert {name: fault["problem"] for name, fault in met.items()} == {n: f["problem"] for n, f in known.items()}
    assert first["dead_letters"] == again["dead_letters"] == 0
    assert first["events"] > 0


@pytest.mark.long
def test_a_kill_in_the_middle_of_a_repair_leaves_nothing_and_the_next_start_finishes_it(state_dir: Path) -> None:
    with aiops_run(state_dir, "--with-patient", "--once", "--faults", "bad-config") as run:
        run.hears("trying     restart ledger")
        run.process.kill()
    nothing_is_left(state_dir)

    with aiops_run(state_dir, "--with-patient") as run:
        run.hears("learned    roll-back-change", within_s=90)
        assert run.stop(signal.SIGINT) < 5
        assert run.process.returncode == 0
    nothing_is_left(state_dir)

    actions = events_on(state_dir, "actions")
    outcomes = events_on(state_dir, "outcomes", lambda event: event["event_type"] == "outcome.verified")
    steps = "action.started", "action.finished", "outcome.verified"
    told = [event for event in (*actions, *outcomes) if event["event_type"] in steps]
    # Another repair may be under way when the program is stopped; the one that was killed must be over.
    repair = [
        (event["event_type"], event["payload"]["action"])
        for event in told
        if event["correlation_id"] == told[0]["correlation_id"]
    ]
    every_step_once = [(step, action) for step in steps for action in {action for _, action in repair}]
    assert sorted(repair) == sorted(every_step_once), told


def test_a_stop_ends_everything_in_time_and_the_next_start_goes_on(state_dir: Path) -> None:
    with aiops_run(state_dir) as run:
        run.hears("door http")
        assert run.stop(signal.SIGTERM) < 5
        assert run.process.returncode == 0
    nothing_is_left(state_dir)
