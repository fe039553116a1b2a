"""``aiops bench``: measures this machine with what ships."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import click

from pipeline.bench import backtest, engine, latency, recovery, restore
from pipeline.bench.machine import machine
from pipeline.commands.output import print_json

Measure = Callable[[Callable[[str], None]], Coroutine[Any, Any, dict[str, Any]]]

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_quick = click.option("--quick", is_flag=True, help="A few seconds only: does it work, and roughly how fast?")
_events = click.option(
    "--events", type=click.IntRange(min=1_000), help="How many events; more take longer, and vary less."
)


@click.group()
def bench() -> None:
    """Measure speed, latency, recovery and backtests, with embedded servers and real worker processes.

    Outputs are checked against an oracle first: wrong ones end the measurement with exit code 1 and without a figure.
    """


@bench.command("engine")
@_json
@_quick
@_events
def bench_engine(as_json: bool, quick: bool, events: int | None) -> None:
    """Events per second of processor time, Redis to Redis with durable commits; one worker and two."""
    chosen = events or (engine.QUICK_EVENTS if quick else engine.EVENTS)
    rounds = engine.QUICK_ROUNDS if quick else engine.ROUNDS
    _report(lambda tell: engine.measure(events=chosen, rounds=rounds, tell=tell), as_json=as_json)


@bench.command("latency")
@_json
@_quick
@_events
def bench_latency(as_json: bool, quick: bool, events: int | None) -> None:
    """Milliseconds from an event to the committed output, at 50 and 80 % of the capacity measured before."""
    chosen = events or (latency.QUICK_EVENTS if quick else latency.EVENTS)
    seconds = latency.QUICK_SECONDS if quick else latency.SECONDS
    _report(lambda tell: latency.measure(events=chosen, seconds=seconds, tell=tell), as_json=as_json)


@bench.command("recovery")
@_json
@_quick
@_events
def bench_recovery(as_json: bool, quick: bool, events: int | None) -> None:
    """Kill -9 of one of two workers: seconds to the first output of its partitions, lost and double events.

    Then a worker that joins two others and leaves them: seconds until its partitions have moved.  And the restore of a
    partition with a million keys: how long, and how long another partition had to wait meanwhile.
    """
    chosen = events or (recovery.QUICK_EVENTS if quick else recovery.EVENTS)
    rounds = recovery.QUICK_ROUNDS if quick else recovery.ROUNDS
    lease_s = recovery.QUICK_LEASE_S if quick else recovery.LEASE_S
    keys = restore.QUICK_KEYS if quick else restore.KEYS
    _report(
        lambda tell: recovery.measure(events=chosen, rounds=rounds, lease_s=lease_s, keys=keys, tell=tell),
        as_json=as_json,
    )


@bench.command("backtest")
@_json
@_quick
@_events
def bench_backtest(as_json: bool, quick: bool, events: int | None) -> None:
    """Events per second of a recording that is read and replayed: a windowed count, and all detectors."""
    chosen = events or (backtest.QUICK_EVENTS if quick else backtest.EVENTS)
    rounds = backtest.QUICK_ROUNDS if quick else backtest.ROUNDS
    _report(lambda tell: backtest.measure(events=chosen, rounds=rounds, tell=tell), as_json=as_json)


def _report(measure: Measure, *, as_json: bool) -> None:
    def tell(line: str) -> None:
        click.echo(line, err=True)

    on = machine()
    with ended_tidily_by_sigterm():
        found = asyncio.run(measure(tell))
    if as_json:
        print_json({**found, "machine": on})
    else:
        click.echo(f"{on['processor']}, {on['cores']} cores, Python {on['python']}, load {on['load_before'][0]}")
        for line in lines_of(found):
            click.echo(line)


@contextmanager
def ended_tidily_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the servers, the workers and their folders too, for as long as there are any."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def lines_of(found: dict[str, Any], indent: str = "") -> list[str]:
    """What was found, for people: one line per figure."""
    lines = []
    for name, value in found.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{words}", *lines_of(value, f"{indent}  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for each in value:
                lines += [f"{indent}{words}", *lines_of(each, f"{indent}  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{words}: {' to '.join(_figure(each) for each in value)}")
        else:
            lines.append(f"{indent}{words}: {_figure(value)}")
    return lines


def _figure(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
