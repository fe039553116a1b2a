"""``aiops bench engine``: events per second of processor time, Redis to Redis, with durable commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline.bench.oracle import refuse_wrong_forwarding, refuse_wrong_windows
from pipeline.bench.processes import Usage, usage_of
from pipeline.bench.rig import Rig, embedded_server, rig
from pipeline.bench.stages import Work
from pipeline.bench.workload import Sample, Workload, counted_windows

EVENTS, QUICK_EVENTS = 400_000, 20_000
ROUNDS, QUICK_ROUNDS = 3, 1
FEW, MANY = 100, 100_000

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One stage drained one full input.

    Attributes:
        cpu_s: processor time of the workers, added up, from the moment the input was there until all was committed.
        server_cpu_s: of the server, in the same time.
        rss_bytes: of the workers, added up, at the end.
    """

    events: int
    outputs: int
    wall_s: float
    cpu_s: float
    server_cpu_s: float
    rss_bytes: int

    @property
    def per_cpu_s(self) -> float:
        """Events per second of the workers' processor time."""
        return self.events / self.cpu_s

    @property
    def per_s(self) -> float:
        """Events per second on the wall's clock."""
        return self.events / self.wall_s


@dataclass(frozen=True, slots=True)
class Case:
    """What is run: a stage, on so many keys, by so many workers."""

    name: str
    work: Work
    keys: int
    workers: int = 1


CASES = (
    Case("count, 100 keys", "count", FEW),
    Case("count, 100 keys, two workers", "count", FEW, workers=2),
    Case("count, 100,000 keys", "count", MANY),
    Case("typed stage, one output per event", "forward", FEW),
    Case("two typed stages, a stream between them", "forward-twice", FEW),
    Case("two typed stages, memory between them", "forward-twice-in-memory", FEW),
)


async def measure(*, events: int, rounds: int, tell: Tell) -> dict[str, Any]:
    """Every case so many times, one after the other and again, so that a disturbance meets all of them.

    Raises:
        WrongResultError: an output is wrong; there are no figures then.
    """
    runs: dict[str, list[Run]] = {case.name: [] for case in CASES}
    with embedded_server() as (url, server):
        for keys in (FEW, MANY):
            workload = Workload(events, keys)
            samples = list(workload.samples())
            async with rig(url, f"input{keys}", partitions=workload.partitions, keys=keys) as source:
                await source.publish(samples)
                for number in range(rounds):
                    for case in (case for case in CASES if case.keys == keys):
                        run = await run_case(case, url, server, source, samples)
                        runs[case.name].append(run)
                        tell(f"{case.name} ({number + 1} of {rounds}): {run.per_cpu_s:,.0f} events per CPU-second")
    return _report(events, rounds, runs)


async def run_case(case: Case, url: str, server: int, source: Rig, samples: Sequence[Sample]) -> Run:
    """Drain the source's input once; raises as :func:`measure`."""
    async with (
        rig(url, "measured", partitions=source.partitions, keys=case.keys) as place,
        place.workers(case.work, case.workers) as workers,
    ):
        pids = [worker.pid for worker in workers]
        before, server_before, began_s = usage_of(pids), usage_of([server]), time.perf_counter()
        await place.take_input_of(source)
        await place.until_drained(case.work)
        wall_s = time.perf_counter() - began_s
        after, server_after = usage_of(pids), usage_of([server])
        for worker in workers:
            await worker.stop()
        said = await place.said()
        if case.work == "count":
            refuse_wrong_windows(counted_windows(iter(samples), case.keys), said)
        else:
            refuse_wrong_forwarding(samples, said)
    return Run(
        len(samples),
        len(said),
        wall_s,
        _spent_s(before, after),
        _spent_s(server_before, server_after),
        after.rss_bytes,
    )


def _spent_s(before: Usage, after: Usage) -> float:
    return max(0.01, after.cpu_s - before.cpu_s)  # the kernel counts in hundredths


def _report(events: int, rounds: int, runs: dict[str, list[Run]]) -> dict[str, Any]:
    one, two = (median(run.cpu_s for run in runs[CASES[n].name]) for n in (0, 1))
    stored, passed_on = (median(run.per_cpu_s for run in runs[CASES[n].name]) for n in (-2, -1))
    return {
        "events": events,
        "rounds": rounds,
        "cases": {name: summary(done) for name, done in runs.items()},
        "two_workers_cpu_ratio": round(two / one, 3),
        "in_memory_ratio": round(passed_on / stored, 2),
    }


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians, and the least and the most of what matters."""
    rates = [run.per_cpu_s for run in runs]
    return {
        "events_per_cpu_s": round(median(rates)),
        "events_per_cpu_s_range": [round(min(rates)), round(max(rates))],
        "events_per_s": round(median(run.per_s for run in runs)),
        "cpu_s_per_million": round(median(run.cpu_s / run.events for run in runs) * 1e6, 2),
        "server_cpu_s_per_million": round(median(run.server_cpu_s / run.events for run in runs) * 1e6, 2),
        "rss_mb": round(median(run.rss_bytes for run in runs) / 1e6),
        "events": runs[0].events,
        "outputs": runs[0].outputs,
    }
