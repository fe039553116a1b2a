"""What makes two problems the same."""

from __future__ import annotations

import pytest

from tables.fingerprint import Evidence, fingerprint, template_of

TRACE = 'Traceback (most recent call last):\n  File "/srv/{place}/web.py", line {line}, in handle\nKeyError: {key}\n'


@pytest.mark.parametrize(
    ("message", "template"),
    [
        ("took 12 ms, then 0.5 s and -3e-7", "took <num> ms, then <num> s and <num>"),
        ("1,234,567 rows in shard-12 of node7b", "<num> rows in shard-<num> of node<num>b"),
        ("order 123e4567-e89b-12d3-a456-426614174000 lost", "order <uuid> lost"),
        ("peer 10.0.0.7:5123 and fe80::1:2 and ::1 in 10.0.0.0/8", "peer <ip> and <ip> and <ip> in <ip>"),
        ("at 0x7fFe12 in commit deadbeef12", "at <hex> in commit <hex>"),
        ("the facade decade feedback", "the facade decade feedback"),
        ("user 'bob' can't read \"/var/x 1\" or `y`", "user <str> can't read <str> or <str>"),
        ("/var/lib/app/12/run.34.log", "/var/lib/app/<num>/run.<num>.log"),
        ("2026-11-22T14:02:07.123Z at 14:02:07,9 on 2026-11-22", "<time> at <time> on <time>"),
        ("  two\n lines\t", "two lines"),
    ],
)
def test_variable_parts_are_replaced_by_what_they_are(message: str, template: str) -> None:
    assert template_of(message) == template


@pytest.mark.parametrize(
    "message",
    ["unit exited with status 139 (SIGSEGV)", "status=503", "exit code 1", "killed by signal 9", "errno: -2"],
)
def test_numbers_that_say_how_it_failed_stay(message: str) -> None:
    assert template_of(message) == message


def test_a_longer_number_after_status_is_a_variable() -> None:
    assert template_of("status 20261122") == "status <num>"


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["'", '"', "\\", "1 ", "a:", ":", "0x", "status ", "1.", "`<", "f", "-1,"])
def test_a_hostile_message_is_cut_not_chewed(piece: str) -> None:
    assert len(template_of(piece * 1_000_000)) <= 2000


def test_the_most_telling_evidence_decides() -> None:
    everything = Evidence(
        explicit="ledger-down",
        stack=TRACE.format(place="app", line=1, key="'a'"),
        exception_type="KeyError",
        message="a",
        log="boom 7",
        symptom="health.refused",
        service="ledger",
    )
    stripped = [
        everything,
        Evidence(everything.explicit and "", everything.stack, "KeyError", "a", "boom 7", "health.refused", "ledger"),
        Evidence(exception_type="KeyError", message="a 1", log="boom 7", symptom="health.refused", service="ledger"),
        Evidence(log="boom 7", symptom="health.refused", service="ledger"),
        Evidence(symptom="health.refused", service="ledger"),
    ]
    assert [(found.basis, found.text) for found in map(fingerprint, stripped)] == [
        ("explicit", "ledger-down"),
        ("stack", "KeyError\napp/web:handle"),
        ("exception", "KeyError\na <num>"),
        ("log", "boom <num>"),
        ("symptom", "health.refused\nledger"),
    ]


def test_the_same_crash_elsewhere_and_after_an_edit_is_the_same_problem() -> None:
    there = fingerprint(Evidence(stack=TRACE.format(place="a/ledger", line=12, key="'x'")))
    here = fingerprint(Evidence(stack=TRACE.format(place="b/c/ledger", line=345, key="'y'")))
    assert there.id == here.id


def test_the_same_symptom_of_another_service_is_another_problem() -> None:
    ids = {fingerprint(Evidence(symptom="latency.high", service=service)).id for service in ("ledger", "ledger-store")}
    assert len(ids) == 2


def test_a_log_line_that_reads_like_a_symptom_is_another_problem() -> None:
    assert fingerprint(Evidence(log="oom")).id != fingerprint(Evidence(symptom="oom")).id


def test_a_stack_that_is_none_counts_as_a_log_line() -> None:
    assert fingerprint(Evidence(stack="it failed 3 times")).basis == "log"


def test_an_id_carries_the_version_of_the_method_and_is_the_same_for_ever() -> None:
    """What was learned hangs on these ids: a change of the method is a new version."""
    assert fingerprint(Evidence(symptom="health.refused", service="ledger")).id == (
        "fp:v1:e0528c20d3ff21dbfeda2a72a9bc9456"
    )


def test_no_evidence_is_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="found no evidence"):
        fingerprint(Evidence(service="ledger", log="  "))
