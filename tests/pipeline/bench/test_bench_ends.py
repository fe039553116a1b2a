"""A measurement ends tidily, and leaves nothing of itself in the process that asked for it."""

from __future__ import annotations

import signal

import pytest

from pipeline.commands.bench import ended_tidily_by_sigterm


def test_sigterm_unwinds_a_measurement_and_means_afterwards_what_it_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ended_tidily_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
