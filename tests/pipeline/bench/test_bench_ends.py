"""A measurement ends tidily, and leaves nothing of itself in the process that asked for it."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.commands.bench import ended_tidily_by_sigterm


def test_sigterm_unwinds_a_measurement_and_means_afterwards_what_it_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ended_tidily_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)  # interrupted by the handler
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
