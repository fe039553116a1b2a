"""Stack traces of three languages, reduced to what stays the same."""

from __future__ import annotations

import pytest

from tables.stack_trace import StackTrace, parse_stack_trace

PYTHON = """\
2026-11-22T14:02:07Z ERROR ledger request failed
Traceback (most recent call last):
  File "/srv/app/ledger/web.py", line 120, in do_POST
    self.transfer(body)
  File "/srv/app/ledger/web.py", line 133, in transfer
    return store.query(body)
  File "/usr/lib/python3.11/site-packages/httpx/_client.py", line 914, in send
    response = self._send(request)
ledger.errors.StoreError: no answer from 127.0.0.1:5123
"""

JAVA = """\
Exception in thread "main" java.lang.IllegalStateException: cannot start
	at com.acme.ledger.Server.start(Server.java:31)
	at com.acme.ledger.Main.main(Main.java:7)
	at java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.net.ConnectException: Connection refused
	at java.base/sun.nio.ch.Net.pollConnect(Native Method)
	... 4 more
"""

NODE = """\
TypeError: Cannot read properties of undefined (reading 'id')
    at transfer (/srv/app/ledger/web.js:12:9)
    at async Server.handle (/srv/app/ledger/server.js:44:5)
    at node:internal/process/task_queues:95:5
"""


def test_python_frames_are_ours_without_line_numbers_and_installation_paths() -> None:
    assert parse_stack_trace(PYTHON) == StackTrace(
        "ledger.errors.StoreError", "no answer from 127.0.0.1:5123", ("ledger/web:do_POST", "ledger/web:transfer")
    )


def test_java_frames_come_outermost_first_and_the_cause_is_the_exception() -> None:
    assert parse_stack_trace(JAVA) == StackTrace(
        "java.net.ConnectException",
        "Connection refused",
        ("com.acme.ledger.Main:main", "com.acme.ledger.Server:start"),
    )


def test_node_frames_leave_out_the_runtime() -> None:
    assert parse_stack_trace(NODE) == StackTrace(
        "TypeError",
        "Cannot read properties of undefined (reading 'id')",
        ("ledger/server:Server.handle", "ledger/web:transfer"),
    )


def test_foreign_frames_count_when_there_are_no_others() -> None:
    text = 'File "/usr/lib/python3.11/site-packages/httpx/_client.py", line 914, in send\nValueError\n'
    assert parse_stack_trace(text) == StackTrace("ValueError", "", ("httpx/_client:send",))


def test_the_depth_of_a_recursion_does_not_matter() -> None:
    def deep(depth: int) -> str:
        return (
            '  File "/a/b/tree.py", line 7, in walk\n  File "/a/b/tree.py", line 9, in step\n' * depth
            + "RecursionError: x"
        )

    assert parse_stack_trace(deep(3)) == parse_stack_trace(deep(300))


def test_a_trace_that_was_cut_off_still_has_its_frames() -> None:
    text = PYTHON[: PYTHON.index("ledger.errors")]
    trace = parse_stack_trace(text)
    assert trace is not None
    assert (trace.exception_type, len(trace.frames)) == ("", 2)


def test_a_text_without_frames_has_no_stack_trace() -> None:
    assert parse_stack_trace("we met at noon (see File 7)") is None
    assert parse_stack_trace("") is None


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "piece", ["\n", " ", "at a.", "at ", "\tat x ", 'File "', 'Exception in thread "x" ', "a.Error"]
)
def test_a_hostile_text_is_read_in_time_that_grows_with_its_length(piece: str) -> None:
    parse_stack_trace(piece * 100_000)
    parse_stack_trace("  at /a:1:1\n" + piece * 100_000)
