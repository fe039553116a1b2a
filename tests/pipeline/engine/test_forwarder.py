"""What commits on a Redis Cluster send to other slots arrives once and in order, whichever forwarder dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.forwarder import STAGE, Forwarder
from pipeline.engine.keys import OUTBOX
from pipeline.engine.mesh import FencedError
from pipeline.engine.outbox import ENTRIES_PER_BATCH, opened, through_outbox
from pipeline.engine.record import BEGINNING, Commit, Offset, Output, Place, Record
from pipeline.engine.redis_mesh import RedisMesh
from tests.contracts.crashing import CrashError, CrashingMesh, When
from tests.pipeline.engine.on_cluster import (
    GRAPH,
    SLOTS,
    connected,
    forwarding,
    outputs,
    put_out,
)
from tests.polling import eventually
from topology.ids import derived_id

pytestmark = pytest.mark.servers


@pytest.fixture
async def mesh(cluster_url: str) -> AsyncIterator[RedisMesh]:
    async with connected(cluster_url, f"t{uuid4().hex[:8]}") as mesh:
        yield mesh


async def found(mesh: RedisMesh) -> dict[int, list[bytes]]:
    places: dict[Place, Offset] = {("findings", partition): BEGINNING for partition in range(4)}
    values: dict[int, list[bytes]] = {partition: [] for partition in range(4)}
    for record in await mesh.read(places, count=100_000, wait_s=0):
        values[record.partition].append(record.value)
    return values


def expected(count: int) -> dict[int, list[bytes]]:
    return {partition: [b'{"number": %d}' % n for n in range(partition, count, 4)] for partition in range(4)}


@given(
    stream=st.from_regex(r"[a-z][a-z0-9.-]{0,62}", fullmatch=True),
    partition=st.integers(0, 10_000),
    key=st.text(max_size=20),
    value=st.binary(max_size=20),
)
def test_an_outbox_gives_back_what_was_put_into_it(stream: str, partition: int, key: str, value: bytes) -> None:
    output = Output(stream, partition, key, "metric.sampled", str(derived_id(1)), value)
    [enclosed] = through_outbox(Commit("count", 3, {}, outputs=[output])).outputs
    if partition % 64 == 3:
        assert enclosed is output, "what is in the same slot needs no outbox"
    else:
        entry = Record(
            enclosed.stream, enclosed.partition, BEGINNING, enclosed.key, enclosed.event_type, enclosed.value
        )
        assert (enclosed.stream, enclosed.partition, opened(entry)) == (OUTBOX, 3, output)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_forwarder_that_dies_after_it_appended_loses_nothing_and_repeats_nothing(
    mesh: RedisMesh, when: When
) -> None:
    total = 3 * ENTRIES_PER_BATCH
    await put_out(mesh, outputs(total // 2), outputs(total - total // 2, total // 2))
    crashing: Any = CrashingMesh(mesh, dict.fromkeys(range(100), when))
    deaths = 0
    for _ in range(20):
        doomed = Forwarder(crashing, GRAPH, name="one")
        try:
            await doomed.step(wait_s=0)
        except CrashError:
            deaths += 1
        if deaths == 3:
            break
    successor = Forwarder(mesh, GRAPH, name="one")
    while await successor.step(wait_s=0):
        pass

    assert deaths == 3
    assert await found(mesh) == expected(total)
    if when == "before":
        assert successor.forwarded < total * 3 // 4, "of what is appended again nothing is new"
        outbox = mesh.keys.partition((OUTBOX, 0))
        assert await mesh.client.xlen(outbox) == 0, "what was forwarded takes no room"


async def test_a_forwarder_that_was_replaced_without_noticing_is_refused(mesh: RedisMesh) -> None:
    await put_out(mesh, outputs(8))
    stale = await mesh.claim(STAGE, 0, "stale", 60)
    assert stale is not None
    entries = await mesh.read({(OUTBOX, 0): BEGINNING}, count=100, wait_s=0)
    to_one = [entry for entry in entries if opened(entry).partition == 1]
    await mesh.release(stale)
    current = Forwarder(mesh, GRAPH, name="current")
    while await current.step(wait_s=0):
        pass

    with pytest.raises(FencedError):
        await mesh.forward(stale, to_one)
    assert await found(mesh) == expected(8)


async def test_forwarders_go_on_when_a_server_has_forgotten_how_many_there_were(mesh: RedisMesh) -> None:
    await put_out(mesh, outputs(8))
    for name in ("one", "two", "three"):
        forwarder = Forwarder(mesh, GRAPH, name=name, lease_s=0.01)
        while await forwarder.step(wait_s=0):
            pass
        for what in ("lease", "tokens"):
            await mesh.client.delete(mesh.keys.owned(STAGE, 0, what))
    await put_out(mesh, outputs(8, 8))
    async with forwarding(Forwarder(mesh, GRAPH, name="four", lease_s=0.4)):
        await eventually(lambda: found(mesh), saying="it reads")

        async def arrived() -> bool:
            return await found(mesh) == expected(16)

        await eventually(arrived, saying="the rest arrived")


async def test_workers_share_the_outboxes_and_leave_none_lying(mesh: RedisMesh) -> None:
    for name in ("one", "two"):
        await mesh.join(name, 60)
    one, two = (Forwarder(mesh, GRAPH, name=name, lease_s=0.4) for name in ("one", "two"))
    async with forwarding(one):
        async with forwarding(two):
            await eventually(
                lambda: sorted([*one.slots, *two.slots]) == list(SLOTS) and abs(len(one.slots) - len(two.slots)) == 1,
                saying="they share",
                seen=lambda: (one.slots, two.slots),
            )
        await put_out(mesh, outputs(80))

        async def arrived() -> bool:
            return await found(mesh) == expected(80)

        await eventually(arrived, saying="the one that is left forwards all, although the other seems alive")
