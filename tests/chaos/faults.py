"""Faults that a deployment must survive without losing anything: each makes sure that it really happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.deployment import Deployment
from tests.chaos.report import STALLED
from tests.chaos.workers import LEASE_S
from tests.polling import eventually

Fault = Callable[[Deployment], Awaitable[None]]

KILLED = "kill -9 after a commit"
DELAYED = "commit delayed past the lease"
CUT = "network cut"
SILENT = "network silent"
STORM = "worker storm"
FULL = "maxmemory reached"
RESTARTED = "server killed, appendfsync"


async def kill_after_a_commit(run: Deployment) -> None:
    """A worker dies when its commit has taken effect and before it learns so."""
    victim = run.any_worker()
    proxy = victim.proxy
    assert proxy is not None
    proxy.deafen_after(run.mesh._commit.sha.encode())
    await eventually(lambda: proxy.lost_answers, saying="a commit is on its way", within_s=30, seen=victim.last_words)
    await run.remove(victim, kill=True)
    run.report.happened(KILLED, victim.name)
    await run.add_worker()


async def stall_past_the_lease(run: Deployment) -> None:
    """A worker stands still until others own its partitions, and goes on as if nothing had been."""
    await run.working()
    victim = run.any_worker()
    before = victim.fenced
    victim.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(LEASE_S + 0.5 + run.chance.random())
    finally:
        victim.send(signal.SIGCONT)
    await eventually(lambda: victim.fenced > before, saying="it is fenced", within_s=20, seen=victim.last_words)
    run.report.happened(STALLED, f"{victim.name} was fenced {victim.fenced - before} times")


async def delay_a_commit_past_the_lease(run: Deployment) -> None:
    """A commit is on its way until others own the partitions and have gone on with them: only the fence stops it."""
    await run.working()
    victim = run.any_worker()
    proxy = victim.proxy
    assert proxy is not None
    before, held = victim.fenced, proxy.held
    proxy.hold_from(run.mesh._commit.sha.encode())
    await eventually(lambda: proxy.held > held, saying="a commit is on its way", within_s=30, seen=victim.last_words)
    await asyncio.sleep(LEASE_S + 0.5)
    await run.committing([worker for worker in run.workers if worker is not victim])
    proxy.heal()
    await eventually(lambda: victim.fenced > before, saying="it is fenced", within_s=20, seen=victim.last_words)
    run.report.happened(DELAYED, f"{victim.name} was fenced {victim.fenced - before} times")


async def cut_one_off(run: Deployment) -> None:
    """The connections of a worker break, and no new ones are taken, for less or for longer than its lease."""
    victim = run.any_worker()
    assert victim.proxy is not None
    before = victim.said.get("restarts", 0)
    victim.proxy.cut()
    span_s = run.chance.uniform(0.1, LEASE_S * 2)
    await asyncio.sleep(span_s)
    await eventually(
        lambda: victim.said.get("restarts", 0) > before or victim.said.get("trouble"),
        saying="it notices",
        within_s=20,
        seen=victim.last_words,
    )
    victim.proxy.heal()
    run.report.happened(CUT, f"{victim.name} for {span_s:.1f} s")


async def silence_one(run: Deployment) -> None:
    """Nothing gets through to a worker or from it, and nobody is told; afterwards everything arrives."""
    victim = run.any_worker()
    assert victim.proxy is not None
    span_s = run.chance.uniform(0.5, LEASE_S * 2)
    victim.proxy.stall()
    await asyncio.sleep(span_s)
    victim.proxy.heal()
    run.report.happened(SILENT, f"{victim.name} for {span_s:.1f} s")


async def cut_all_off(run: Deployment) -> None:
    """The server cannot be reached by anybody, the source included."""
    refused = run.source.refused
    proxies = [run.source_proxy, *(worker.proxy for worker in run.workers if worker.proxy is not None)]
    for proxy in proxies:
        proxy.cut()
    await asyncio.sleep(run.chance.uniform(0.3, LEASE_S * 1.5))
    await eventually(lambda: run.source.refused > refused, saying="the source notices")
    for proxy in proxies:
        proxy.heal()
    run.report.happened(CUT, "everybody")


def storm(workers: int) -> Fault:
    """So many workers come and go, in random order, some of them without a word."""

    async def blow(run: Deployment) -> None:
        joined = []
        comings = ["join"] * workers + ["leave"] * workers
        run.chance.shuffle(comings)
        while comings:
            move = comings.pop()
            if move == "join":
                joined.append(await run.add_worker())
            elif joined:
                leaving = joined.pop(run.chance.randrange(len(joined)))
                await run.remove(leaving, kill=run.chance.random() < 0.4)
            await asyncio.sleep(run.chance.random() * 0.3)
        for worker in joined:
            await run.remove(worker, kill=run.chance.random() < 0.4)
        run.report.happened(STORM, f"{workers} workers")

    return blow


async def fill_the_memory(run: Deployment) -> None:
    """The server has no memory left for new data, for a while."""
    client = run.server.client
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 50_000)
    await eventually(
        lambda: "maxmemory" in run.source.refusal, saying="it is full", within_s=30, seen=lambda: run.source.refusal
    )
    await asyncio.sleep(run.chance.uniform(0.5, LEASE_S * 1.5))
    client.config_set("maxmemory", 0)
    run.source.refusal = ""
    run.report.happened(FULL)


WORKERS_AND_NETWORK: tuple[Fault, ...] = (
    kill_after_a_commit,
    stall_past_the_lease,
    delay_a_commit_past_the_lease,
    cut_one_off,
    silence_one,
    cut_all_off,
    fill_the_memory,
)

ALWAYS = (KILLED, STALLED, DELAYED, CUT, SILENT, FULL, "duplicate posted")
"""What must have happened once these have been played, whatever their order."""
