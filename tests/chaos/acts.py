"""The acts of a run: each a deployment of its own, some faults, and then the judgement."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import faults
from tests.chaos.deployment import deployed
from tests.chaos.loop_under_test import PARTITIONS
from tests.chaos.postgres import postgres
from tests.chaos.privileged import fill, namespace, small_disk
from tests.chaos.proxy import Proxy
from tests.chaos.report import Report
from tests.chaos.valkey import Valkey
from tests.chaos.workers import LEASE_S
from tests.polling import eventually

FLUSHED = "server restarted without its data"
PROMOTED = "replica promoted"
DISK_FULL = "disk full"
NAMESPACE = "cable pulled"
POSTGRES = "PostgreSQL killed in a transaction"
_EVERYSEC_MAY_LOSE_S = 2.5
"""What everysec may lose by its documentation, two seconds when the disk is busy, and the time to take the moment."""


@dataclass(frozen=True, slots=True)
class Act:
    """One part of a run.

    Attributes:
        play: does it, in an empty folder.
        faults: what must have happened in it.
    """

    name: str
    play: Callable[[Report, random.Random, Path, bool], Awaitable[None]]
    faults: tuple[str, ...]


async def workers_and_network(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
    """Everything that happens to workers and between them and a server that is well."""
    async with deployed(report, chance, folder) as run:
        rounds = 1 if quick else 2
        planned = [*faults.WORKERS_AND_NETWORK * rounds, faults.storm(4 if quick else 10)]
        chance.shuffle(planned)
        for fault in planned:
            await fault(run)
            await asyncio.sleep(chance.random() * (0.5 if quick else 1.5))
        await run.settle()


def server_restarts(fsync: str) -> Callable[[Report, random.Random, Path, bool], Awaitable[None]]:
    """The server is killed and comes back with what is on its disk."""

    async def play(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
        async with deployed(report, chance, folder, fsync=fsync) as run:
            for _ in range(1 if quick else 4):
                await asyncio.sleep(chance.uniform(0.5, 3))
                if fsync != "always":
                    run.may_lose(f"{faults.RESTARTED} {fsync}", time.monotonic() - _EVERYSEC_MAY_LOSE_S)
                run.server.kill()
                await asyncio.sleep(chance.choice((0.0, 0.0, LEASE_S * 1.5)) * chance.random())
                await run.server.start()
                report.happened(f"{faults.RESTARTED} {fsync}")
                await run.working()
            await run.settle()

    return play


async def server_flushed(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
    """A server without persistence restarts: everything is gone, and that must be said."""
    async with deployed(report, chance, folder, fsync="") as run:
        await asyncio.sleep(chance.uniform(1, 2))
        run.may_lose(FLUSHED, 0)
        run.server.kill()
        await run.server.start()
        report.happened(FLUSHED)
        await run.lost_writes_reported()
        await run.working()
        await asyncio.sleep(chance.uniform(1, 2))
        await run.settle()


async def replica_promoted(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
    """The server dies, and a replica that had fallen behind takes its place: what it lacks must be said."""
    async with deployed(report, chance, folder) as run:
        replication = Proxy(lambda: run.server.port)
        await replication.start()
        replica = Valkey(folder / "replica")
        await replica.start()
        replica.client.replicaof("127.0.0.1", replication.port)
        await eventually(lambda: _is_synced(replica), saying="the replica has everything", within_s=30)
        await asyncio.sleep(chance.uniform(0.5, 2))
        replication.stall()
        since_s = time.monotonic()
        await run.working()
        await asyncio.sleep(chance.uniform(0.5, 2))
        run.may_lose(PROMOTED, since_s)
        run.server.kill()
        await replication.stop()
        replica.client.replicaof("NO", "ONE")
        await run.moved_to(replica)
        report.happened(PROMOTED)
        await run.lost_writes_reported()
        await run.working()
        await asyncio.sleep(chance.uniform(0.5, 2))
        await run.settle()
        if not report.lost_writes[PROMOTED]:
            report.broken("the replica that was promoted lacked nothing, so this has proven nothing")


async def disk_full(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
    """The disk under the append-only file fills up: nothing more is taken until there is room again."""
    async with small_disk(folder / "disk") as disk, deployed(report, chance, folder, data=disk / "server") as run:
        for _ in range(2):
            await asyncio.sleep(chance.uniform(0.5, 2))
            filler = await asyncio.to_thread(fill, disk)
            await eventually(
                lambda: "MISCONF" in run.source.refusal,
                saying="the server refuses writes",
                within_s=30,
                seen=lambda: run.source.refusal,
            )
            await asyncio.sleep(chance.uniform(0.5, LEASE_S * 1.5))
            filler.unlink()
            report.happened(DISK_FULL)
            await run.working()
            run.source.refusal = ""
        await run.settle()


async def network_namespace(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
    """Some workers are behind a cable that is pulled: packets vanish, and no connection breaks."""
    async with namespace() as network, deployed(report, chance, folder, workers=1, bind=network.host) as run:
        url = f"redis://{network.host}:{run.server.port}"
        behind = [await run.add_worker(url=url, within=network.within) for _ in range(2)]
        for span_s in (LEASE_S / 2, LEASE_S + 2, LEASE_S * 4):
            await run.committing(behind)
            await network.cut()
            await asyncio.sleep(span_s)
            await network.heal()
            report.happened(NAMESPACE, f"for {span_s:.1f} s")
        await run.working()
        await run.settle()


async def postgres_killed(report: Report, chance: random.Random, folder: Path, quick: bool) -> None:
    """PostgreSQL dies in the middle of the sink's transaction, and so do workers that feed it."""
    async with (
        postgres(folder) as database,
        deployed(report, chance, folder, database_url=database.url, workers=2) as run,
    ):
        run.consumers = [("~sink-knowledge", 0, ("incidents", partition)) for partition in range(PARTITIONS)]
        for postmaster in (True, False):
            await asyncio.sleep(chance.uniform(0.5, 2))
            await database.kill_in_a_transaction(postmaster=postmaster)
            report.happened(POSTGRES, "the server" if postmaster else "the sink's backend")
            await faults.kill_after_a_commit(run)
        await run.settle()
        kept = await database.incidents()
        told = {e.payload.incident: e.id for events in (await run.log())["incidents"] for e in events}
        if kept != told:
            report.lost += len(told.keys() - kept.keys())
            report.broken(f"PostgreSQL has {len(kept)} incidents, {len(told)} were told of")


def _is_synced(replica: Valkey) -> bool:
    about = replica.client.info("replication")
    return about["master_link_status"] == "up" and not about["master_sync_in_progress"]


QUICK = (
    Act("workers-and-network", workers_and_network, (*faults.ALWAYS, faults.STORM)),
    Act("server-killed-everysec", server_restarts("everysec"), (f"{faults.RESTARTED} everysec",)),
    Act("server-killed-always", server_restarts("always"), (f"{faults.RESTARTED} always",)),
    Act("server-flushed", server_flushed, (FLUSHED,)),
    Act("replica-promoted", replica_promoted, (PROMOTED,)),
)
ACTS = (
    *QUICK,
    Act("disk-full", disk_full, (DISK_FULL,)),
    Act("network-namespace", network_namespace, (NAMESPACE,)),
    Act("postgres-killed", postgres_killed, (POSTGRES,)),
)
