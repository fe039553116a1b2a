"""One run of one peer: started in its own environment, its result checked against the oracle."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench.engine import Run
from pipeline.bench.oracle import WrongResultError, refuse_wrong_counts
from pipeline.bench.processes import usage_of
from pipeline.bench.workload import ENDS, WINDOW_US, Sample, Windows, counted_windows

ROOT = Path(__file__).resolve().parents[2]
_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's engine, as we use it.

    Attributes:
        module: in ``tests.benchmarks.peers``.
        environment: whose packages it needs.
        events: fewer for the slow ones, so that everything ends in time.
        server: where it reads and writes: Kafka, our Redis, or nothing but memory.
        keys: the numbers of keys it is run with.
    """

    name: str
    module: str
    environment: str
    events: int
    server: str
    keys: tuple[int, ...]


class PeerFailedError(Exception):
    """A peer did not come to an end; the message is its last word."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer is run: its Python, its server, and a folder for files."""

    python: Path
    address: str
    server_pid: int | None
    tools: Path
    folder: Path


def write_lines(samples: list[Sample], file: Path) -> None:
    """The input as the peers take it: partition, milliseconds, key, event."""
    with file.open("w", encoding="utf-8") as lines:
        for each in samples:
            lines.write(f"{each.partition}\t{each.at_us // 1000}\t{each.service}\t{each.value.decode()}\n")


def topic_tool(place: Place, verb: str, topic: str, *arguments: str) -> None:
    """Make, fill or read a topic; raises ``PeerFailedError``."""
    _call([str(place.tools), "-m", "tests.benchmarks.peers.kafka_topics", verb, place.address, topic, *arguments])


def run_peer(peer: Peer, place: Place, source: str, samples: list[Sample], keys: int, run_id: str) -> Run:
    """One run from the start of the process to its last event.

    Raises:
        PeerFailedError: it failed, or took too long.
        WrongResultError: it miscounted.
    """
    result = place.folder / f"{run_id}.json"
    if peer.server == "kafka":
        topic_tool(place, "make", run_id)
    server = [place.server_pid] if place.server_pid else []
    before_s = usage_of(server).cpu_s
    arguments = [place.address, source, run_id, str(len(samples)), str(keys), str(result)]
    _call([str(place.python), "-m", f"tests.benchmarks.peers.{peer.module}", *arguments])
    server_cpu_s = usage_of(server).cpu_s - before_s
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    shutil.rmtree(result.with_suffix(".state"), ignore_errors=True)
    outputs = _check(found, place, samples, keys, run_id)
    return Run(found["events"], outputs, found["wall_s"], found["cpu_s"], server_cpu_s, found["rss_bytes"])


def _check(found: dict[str, Any], place: Place, samples: list[Sample], keys: int, run_id: str) -> int:
    if "said" in found:
        if found["said"] != [sample.id for sample in samples]:
            raise WrongResultError("what was said is not what came in, in its order")
        return len(found["said"])
    windows = found.get("windows") or _windows_on_topic(place, run_id)
    counted: Windows = {
        (service, round(start_s * 1_000_000) + WINDOW_US): count
        for service, start_s, count in windows
        if service not in ENDS
    }
    repeated = sum(service not in ENDS for service, _, _ in windows) - len(counted)
    refuse_wrong_counts(counted_windows(iter(samples), keys), counted, repeated=repeated)
    return len(counted)


def _windows_on_topic(place: Place, topic: str) -> list[tuple[str, float, int]]:
    file = place.folder / f"{topic}.tsv"
    topic_tool(place, "read", topic, str(file))
    windows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        service, _, value = line.partition("\t")
        said = json.loads(value)
        start_ms, count = (said["start"], said["value"]) if isinstance(said, dict) else said
        windows.append((service, start_ms / 1000, count))
    return windows


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except subprocess.TimeoutExpired as error:
        raise PeerFailedError(f"not at the end after {_WITHIN_S:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise PeerFailedError(said[-1] if said else f"exit code {done.returncode}")
