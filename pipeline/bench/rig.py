"""A server of its own, the input on it, workers that wait for it, and what came out."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import orjson
from redis.asyncio import Redis

from pipeline.bench.processes import WorkerProcess
from pipeline.bench.stages import INPUT, OUTPUT, STAGE, Work, topology
from pipeline.bench.workload import Sample
from pipeline.engine.record import BEGINNING, Offset, Output, Place, Record
from pipeline.engine.redis_mesh import RedisMesh
from pipeline.servers import acquire, stop

LEASE_S = 5.0
"""As in production, unless a measurement says otherwise."""
_TYPE = "metric.sampled"
_PAUSE_S = 0.01
_SETTLED_S = 1.0
_WITHIN_S = 300.0
_PER_CALL = 1_000


class Said(NamedTuple):
    """One output, as far as an oracle looks at it.

    Attributes:
        at_ms: when it was committed, by the server's clock.
        cause: the id of the input it came from.
        timestamp: of the event, as it is written in it.
    """

    partition: int
    at_ms: int
    cause: str
    timestamp: str
    service: str
    value: float


@contextmanager
def embedded_server() -> Iterator[tuple[str, int]]:
    """A fresh embedded server, its address and its process; it and its data are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="aiops-bench-"))
    folder.chmod(0o711)  # as root the server runs under another account
    try:
        with acquire(folder, need=frozenset({"redis"})) as lease:
            [server] = lease.servers
            yield lease.redis_url or "", server.pid or 0
    finally:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def output_of(sample: Sample, *, stream: str = INPUT) -> Output:
    """A sample as the door publishes it."""
    return Output(stream, sample.partition, sample.service, _TYPE, sample.id, sample.value)


class Rig:
    """One namespace on the server.

    Attributes:
        mesh: for the measurement's own use; the workers have theirs.
    """

    def __init__(self, url: str, namespace: str, *, partitions: int, keys: int) -> None:
        self.mesh = RedisMesh.connect(url, namespace)
        self.partitions = partitions
        self._keys = keys
        self._url = url
        self._namespace = namespace
        self._redis = Redis.from_url(url)

    async def publish(self, samples: Iterable[Sample]) -> None:
        """Put samples on the input, as fast as the server takes them."""
        coming = iter(samples)
        while some := list(islice(coming, _PER_CALL)):
            await self.mesh.publish([output_of(sample) for sample in some])

    async def take_input_of(self, other: Rig) -> None:
        """Get the other's input, in one step, as if it had been there always.

        So workers can start and share the partitions before there is anything to do, and then find everything at once.
        """
        for partition in range(self.partitions):
            source, target = other.mesh.keys.partition((INPUT, partition)), self._input(partition)
            await self._redis.copy(source, f"{target}~")
        pipe = self._redis.pipeline(transaction=True)
        for partition in range(self.partitions):
            pipe.rename(f"{self._input(partition)}~", self._input(partition))
        await pipe.execute()

    def worker(self, work: Work, name: str, *, lease_s: float = LEASE_S) -> WorkerProcess:
        """A worker process of this namespace; enter it to end it."""
        return WorkerProcess(
            self._url,
            self._namespace,
            work,
            keys=self._keys,
            partitions=self.partitions,
            name=name,
            lease_s=lease_s,
        )

    @asynccontextmanager
    async def workers(self, work: Work, count: int, *, lease_s: float = LEASE_S) -> AsyncIterator[list[WorkerProcess]]:
        """So many workers that have shared the partitions among them."""
        async with AsyncExitStack() as stack:
            started = [
                stack.enter_context(self.worker(work, f"worker-{n}", lease_s=lease_s)) for n in range(1, count + 1)
            ]
            for each in started:
                await each.until_running()
            await self.until_shared({each.name for each in started})
            yield started

    async def owners(self) -> list[str]:
        """Who owns each partition of the stage; empty for those without an owner."""
        keys = [self.mesh.keys.owned(STAGE, partition, "lease") for partition in range(self.partitions)]
        tokens: list[bytes | None] = await self._redis.mget(keys)  # type: ignore[assignment]
        return [(token or b"").decode().partition(" ")[2] for token in tokens]

    async def until_shared(self, names: set[str]) -> list[str]:
        """Wait until these workers own everything and nothing has moved for a while; answers the owners."""
        since, last = time.monotonic(), await self.owners()
        give_up_at = since + _WITHIN_S
        while not (set(last) == names and time.monotonic() - since > _SETTLED_S):
            _refuse_to_wait_longer(give_up_at, f"{names} share the partitions, owned now by {last}")
            await asyncio.sleep(_PAUSE_S)
            owners = await self.owners()
            if owners != last:
                since, last = time.monotonic(), owners
        return last

    async def until_drained(self, work: Work = "forward") -> None:
        """Wait until the stage has committed that it has read everything, and one that reads from it, too."""
        for task in topology(work, keys=self._keys, partitions=self.partitions).tasks:
            await self._until_drained(task.id, task.inputs[0].name)

    async def _until_drained(self, stage: str, stream: str) -> None:
        places: list[Place] = [(stream, partition) for partition in range(self.partitions)]
        infos = [await self._redis.xinfo_stream(self.mesh.keys.partition(place)) for place in places]
        ends = [Offset.parse(info["last-generated-id"]) for info in infos]
        give_up_at = time.monotonic() + _WITHIN_S
        while (done := await self.mesh.committed([(stage, place[1], place) for place in places])) != ends:
            _refuse_to_wait_longer(give_up_at, f"everything up to {ends} is committed, now {done}")
            await asyncio.sleep(_PAUSE_S)

    async def said(self) -> list[Said]:
        """All outputs, in order within each partition."""
        found: list[Said] = []
        places: dict[Place, Offset] = {(OUTPUT, partition): BEGINNING for partition in range(self.partitions)}
        while records := await self.mesh.read(places, count=10_000, wait_s=0):
            for record in records:
                places[record.stream, record.partition] = record.offset
                found.append(_said(record))
        return found

    async def input_times_ms(self) -> dict[str, int]:
        """When each input was on its stream, by the server's clock."""
        times: dict[str, int] = {}
        places: dict[Place, Offset] = {(INPUT, partition): BEGINNING for partition in range(self.partitions)}
        while records := await self.mesh.read(places, count=10_000, wait_s=0):
            for record in records:
                places[record.stream, record.partition] = record.offset
                times[orjson.loads(record.value)["id"]] = record.offset.ms
        return times

    async def clear(self) -> None:
        """Delete everything of this namespace."""
        names = [name async for name in self._redis.scan_iter(self.mesh.keys.everything, count=1_000)]
        for first in range(0, len(names), 1_000):
            await self._redis.unlink(*names[first : first + 1_000])

    async def close(self) -> None:
        """Give back the connections."""
        await self.mesh.close()
        await self._redis.aclose()

    def _input(self, partition: int) -> str:
        return self.mesh.keys.partition((INPUT, partition))


@asynccontextmanager
async def rig(url: str, namespace: str, *, partitions: int, keys: int) -> AsyncIterator[Rig]:
    """A namespace for one measurement, deleted afterwards."""
    each = Rig(url, namespace, partitions=partitions, keys=keys)
    try:
        yield each
    finally:
        await each.clear()
        await each.close()


def _said(record: Record) -> Said:
    event = orjson.loads(record.value)
    payload = event["payload"]
    return Said(
        record.partition,
        record.offset.ms,
        event["correlation_id"],
        event["timestamp"],
        payload["service"],
        payload["value"],
    )


def _refuse_to_wait_longer(give_up_at: float, what: str) -> None:
    if time.monotonic() > give_up_at:
        msg = f"waited {_WITHIN_S:.0f} s in vain until {what}"
        raise TimeoutError(msg)
