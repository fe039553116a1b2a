"""The peers do the same work as we do."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.bench.engine import FEW
from pipeline.bench.rig import embedded_server
from pipeline.bench.workload import COUNTED, LATENESS_US, WINDOW_US, Workload, systems
from tests.benchmarks.compare import PEERS, Contest
from tests.benchmarks.environments import PEERS as PEERS_FOLDER
from tests.benchmarks.peers import measured


def test_peers_look_up_and_window_as_we_do() -> None:
    assert measured.systems(1_000) == systems(1_000)
    assert measured.COUNTED == COUNTED
    assert Workload(1, 1).partitions == measured.PARTITIONS
    assert measured.WINDOW_S * 1_000_000 == WINDOW_US
    assert measured.LATENESS_S * 1_000_000 == LATENESS_US


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_a_script_and_exact_versions(peer: object) -> None:
    pins = (PEERS_FOLDER / f"{peer.environment}.txt").read_text(encoding="utf-8").splitlines()  # type: ignore[attr-defined]

    assert (PEERS_FOLDER / f"{peer.module}.py").exists()  # type: ignore[attr-defined]
    assert all("==" in line for line in pins if not line.startswith("#"))


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_every_peer_comes_to_the_oracles_result(tmp_path: Path) -> None:
    with ExitStack() as stack:
        url, pid = stack.enter_context(embedded_server())
        contest = Contest(tmp_path, url, pid, rounds=1, quick=True)
        contest.prepare(stack)
        asyncio.run(contest.run(FEW))

    assert contest.missing == {}
    assert len(contest.runs) == 2 + len(PEERS)
