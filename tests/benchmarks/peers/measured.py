"""What every peer shares: the arguments, the lookup, and the measuring of itself.

Runs in the peers' own environments, so it imports nothing but the standard library.

    python -m tests.benchmarks.peers.PEER BROKER INPUT OUTPUT EVENTS KEYS RESULT

A peer reads EVENTS events from INPUT, does the work, and writes one JSON object to the file RESULT: what it used, and,
where its results are in memory and not in OUTPUT, those too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

COUNTED = "requests"
WINDOW_S = 10
LATENESS_S = 2
PARTITIONS = 8


class Arguments(NamedTuple):
    """See the module."""

    broker: str
    input: str
    output: str
    events: int
    keys: int
    result: Path

    @property
    def scratch(self) -> Path:
        """A folder of this run's own, for state on disk."""
        return self.result.with_suffix(".state")


def arguments() -> Arguments:
    """The command line's."""
    broker, source, target, events, keys, result = sys.argv[1:]
    return Arguments(broker, source, target, int(events), int(keys), Path(result))


def systems(keys: int) -> dict[str, str]:
    """The same lookup as ours (``pipeline.bench.workload.systems``); a test compares them."""
    known = {f"service-{rank:06d}": f"system-{rank % 50}" for rank in range(keys) if (rank + 1) % 100}
    return {**known, **{f"end-{number}": "end" for number in range(256)}}


class Meter:
    """Measures from the first event to the last, so that neither imports nor joining a group count."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.seen = 0
        self._began = (0.0, 0.0)
        self._used = (0.0, 0.0)

    def count(self) -> bool:
        """Call it at the beginning of each event; true for the last one."""
        if not self.seen:
            self._began = (time.perf_counter(), time.process_time())
        self.seen += 1
        return self.seen == self.events

    def stop(self) -> None:
        """Call it when everything is done, as early as is still right for the peer; the first call counts."""
        if not self._used[0]:
            wall_s, cpu_s = self._began
            self._used = (time.perf_counter() - wall_s, time.process_time() - cpu_s)

    def report(self, result: Path, **more: Any) -> None:
        """Stop, and write what was used."""
        if self.seen != self.events:
            raise SystemExit(f"{self.seen} of {self.events} events came")
        self.stop()
        wall_s, cpu_s = self._used
        used = {"events": self.seen, "wall_s": wall_s, "cpu_s": cpu_s, "rss_bytes": _peak_bytes()}
        result.write_text(json.dumps({**used, **more}), encoding="utf-8")


def _peak_bytes() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes where there is no /proc
    # Not ru_maxrss: on Linux a process begins with the peak of the one that started it.
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) * 1024
