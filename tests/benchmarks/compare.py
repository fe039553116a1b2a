"""``make bench``: measures us, then us and the peers on one workload in one run, and writes BENCHMARKS.md.

    python -m tests.benchmarks.compare [--quick] [--no-peers] [--rounds N]

Everything is kept in build/benchmarks: the peers' environments, Kafka's jars, and results.json, from which
``python -m tests.benchmarks.report`` writes the page again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.bench import backtest, engine, latency, recovery, restore
from pipeline.bench.engine import FEW, MANY, Case, Run, run_case, summary
from pipeline.bench.machine import machine
from pipeline.bench.oracle import WrongResultError
from pipeline.bench.rig import embedded_server, rig
from pipeline.bench.workload import Sample, Workload
from pipeline.commands.bench import ended_tidily_by_sigterm
from tests.benchmarks.contest import ROOT, Peer, PeerFailedError, Place, run_peer, topic_tool, write_lines
from tests.benchmarks.environments import KAFKA, UnavailableError, environment, kafka, kafka_jars
from tests.benchmarks.report import write_page

CACHE = ROOT / "build" / "benchmarks"
RESULTS = CACHE / "results.json"
PEERS = (
    Peer("Faust", "faust_count", "faust", 20_000, "kafka", (FEW, MANY)),
    Peer("Quix Streams", "quix_count", "quix", 100_000, "kafka", (FEW, MANY)),
    Peer("Bytewax", "bytewax_count", "bytewax", 300_000, "kafka", (FEW, MANY)),
    Peer("Bytewax, in memory only", "bytewax_count", "bytewax", 300_000, "memory", (FEW, MANY)),
    Peer("FastStream", "faststream_forward", "faststream", 10_000, "redis", (FEW,)),
)
_OURS = (
    (Case("AI-Ops Core", "count", FEW), 300_000),
    (Case("AI-Ops Core", "count", MANY), 300_000),
    (Case("AI-Ops Core, typed stage", "forward", FEW), 200_000),
)
_QUICK_EVENTS = 5_000


def main() -> None:
    """Measure, keep the results, write the page."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=")
    parser.add_argument("--quick", action="store_true", help="few events and one round; writes no page")
    parser.add_argument("--no-peers", action="store_true", help="measure only ourselves")
    parser.add_argument("--rounds", type=int, default=engine.ROUNDS, help="how often everything is measured")
    chosen = parser.parse_args()
    rounds = 1 if chosen.quick else chosen.rounds
    began_s = time.monotonic()
    CACHE.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine()}
    results |= asyncio.run(_ours(rounds, quick=chosen.quick))
    if chosen.no_peers:
        _tell("peers are left out, as asked")
    else:
        results["peers"] = _contest(rounds, quick=chosen.quick)
    results["took_s"] = round(time.monotonic() - began_s)
    results["load_after"] = [round(load, 2) for load in os.getloadavg()]
    if chosen.quick:
        _tell(f"done in {results['took_s']} s; a quick run writes no page")
        return
    RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
    write_page(results, ROOT)
    _tell(f"done in {results['took_s']} s: BENCHMARKS.md")


async def _ours(rounds: int, *, quick: bool) -> dict[str, Any]:
    if quick:
        return {
            "engine": await engine.measure(events=_QUICK_EVENTS, rounds=1, tell=_tell),
            "latency": await latency.measure(events=_QUICK_EVENTS, seconds=latency.QUICK_SECONDS, tell=_tell),
            "recovery": await recovery.measure(
                events=_QUICK_EVENTS, rounds=1, lease_s=recovery.QUICK_LEASE_S, keys=restore.QUICK_KEYS, tell=_tell
            ),
            "backtest": await backtest.measure(events=_QUICK_EVENTS, rounds=1, tell=_tell),
        }
    return {
        "engine": await engine.measure(events=engine.EVENTS, rounds=rounds, tell=_tell),
        "latency": await latency.measure(events=latency.EVENTS, seconds=latency.SECONDS, tell=_tell),
        "recovery": await recovery.measure(
            events=recovery.EVENTS, rounds=rounds, lease_s=recovery.LEASE_S, keys=restore.KEYS, tell=_tell
        ),
        "backtest": await backtest.measure(events=backtest.EVENTS, rounds=rounds, tell=_tell),
    }


def _contest(rounds: int, *, quick: bool) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="aiops-bench-peers-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        url, server_pid = stack.enter_context(embedded_server())
        contest = Contest(folder, url, server_pid, rounds=rounds, quick=quick)
        contest.prepare(stack)
        for keys in (FEW, MANY):
            asyncio.run(contest.run(keys))
        return contest.results()


class Contest:
    """Everybody on the same input, one after the other, several times.

    Attributes:
        missing: who could not take part, or whose round does not count, and why.
        runs: by number of keys and name.
    """

    def __init__(self, folder: Path, url: str, server_pid: int, *, rounds: int, quick: bool) -> None:
        self.missing: dict[str, str] = {}
        self.runs: dict[tuple[int, str], list[Run]] = {}
        self._folder = folder
        self._url, self._server_pid = url, server_pid
        self._rounds = rounds
        self._peers = tuple(replace(peer, events=_QUICK_EVENTS) for peer in PEERS) if quick else PEERS
        self._ours = [(case, _QUICK_EVENTS if quick else events) for case, events in _OURS]
        self._places: dict[str, Place] = {}
        self._samples: dict[int, list[Sample]] = {}

    def prepare(self, stack: ExitStack) -> None:
        """Get what each peer needs; who cannot have it is left out, and that is said."""
        try:
            broker = stack.enter_context(kafka(kafka_jars(CACHE), self._folder / "kafka"))
        except UnavailableError as error:
            _tell(f"PEERS ON KAFKA ARE LEFT OUT: {error}")
            broker = None
        for peer in self._peers:
            if peer.server == "kafka" and broker is None:
                self.missing[peer.name] = "no Kafka broker"
                continue
            try:
                python, tools = environment(peer.environment, CACHE), environment("bytewax", CACHE)
            except UnavailableError as error:
                self.missing[peer.name] = str(error)
                _tell(f"{peer.name.upper()} IS LEFT OUT: {error}")
                continue
            address, pid = self._url, self._server_pid
            if peer.server == "kafka" and broker is not None:
                address, pid = broker
            elif peer.server == "memory":
                address, pid = "memory", 0
            self._places[peer.name] = Place(python, address, pid or None, tools, self._folder)

    async def run(self, keys: int) -> None:
        """All rounds with so many keys."""
        self._samples.clear()  # a million events of another number of keys
        for number in range(self._rounds):
            for case, events in self._ours:
                if case.keys == keys:
                    await self._run_ours(case, events)
            for peer in self._peers:
                if keys in peer.keys and peer.name in self._places:
                    self._run_peer(peer, keys, number)

    def results(self) -> dict[str, Any]:
        """Per number of keys, who did how much."""
        found: dict[str, Any] = {"rounds": self._rounds, "kafka": KAFKA, "missing": self.missing}
        for (keys, name), runs in self.runs.items():
            found.setdefault(f"keys_{keys}", {})[name] = summary(runs)
        return found

    async def _run_ours(self, case: Case, events: int) -> None:
        samples = self._input(events, case.keys)
        async with rig(self._url, "contest", partitions=Workload(1, 1).partitions, keys=case.keys) as source:
            await source.publish(samples)
            self._note(case.keys, case.name, await run_case(case, self._url, self._server_pid, source, samples))

    def _run_peer(self, peer: Peer, keys: int, number: int) -> None:
        place, samples = self._places[peer.name], self._input(peer.events, keys)
        lines = self._folder / f"{peer.events}-{keys}.tsv"
        try:
            if not lines.exists():
                write_lines(samples, lines)
            source = str(lines)
            if peer.server == "kafka":
                source = f"samples-{peer.module}-{keys}"
                if number == 0:
                    topic_tool(place, "fill", source, str(lines))
            run = run_peer(peer, place, source, samples, keys, f"{peer.module}-{peer.server}-{keys}-{number}")
        except (PeerFailedError, WrongResultError) as error:
            self.missing[f"{peer.name}, {keys:,} keys, round {number + 1}"] = str(error)
            _tell(f"{peer.name}, {keys:,} keys, FAILED: {error}")
        else:
            self._note(keys, peer.name, run)

    def _note(self, keys: int, name: str, run: Run) -> None:
        self.runs.setdefault((keys, name), []).append(run)
        _tell(f"{name}, {keys:,} keys: {run.per_cpu_s:,.0f} events per CPU-second")

    def _input(self, events: int, keys: int) -> list[Sample]:
        if events not in self._samples:
            self._samples[events] = list(Workload(events, keys).samples())
        return self._samples[events]


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    with ended_tidily_by_sigterm():
        main()
