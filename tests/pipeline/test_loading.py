"""Topologies are read from files, agents from modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.loading import load_agent, load_topology
from topology.agent import Agent
from topology.errors import ConfigurationError


def test_the_topology_that_ships_can_run() -> None:
    assert load_topology().stage("correlate").agent_class.__name__ == "Correlate"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.yaml"):
        load_topology(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"binary\.yaml"):
        load_topology(tmp_path / "binary.yaml")


def test_an_agent_beside_the_working_directory_is_found_and_cannot_stand_in_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "an_agent_of_mine.py").write_text("from topology import Agent\nclass Mine(Agent): pass\n")
    (tmp_path / "agents.py").write_text("raise RuntimeError('not ours')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # restores sys.path afterwards

    mine = load_agent("an_agent_of_mine:Mine")
    assert isinstance(mine, type)
    assert issubclass(mine, Agent)
    assert load_agent("agents.monitor.health:HealthDetector")
