"""Real services are probed: one that is well, one that is ill, one that hangs, one that is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from pipeline.sources.probes import Probe, ProbeSource
from tests.pipeline.sources.published import Published
from tests.polling import eventually
from topology.errors import RetryableError
from topology.payloads import HeartbeatSeen

OFTEN = timedelta(milliseconds=50)


@asynccontextmanager
async def service(answer: bytes | None, *, delay_s: float = 0) -> AsyncIterator[str]:
    """A server that gives one answer to everything; None: it accepts and never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(delay_s)
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health"
    finally:
        server.close()


def page(status: str, body: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@asynccontextmanager
async def probed(probes: Iterable[Probe]) -> AsyncIterator[Published]:
    published = Published()
    running = asyncio.create_task(ProbeSource(probes).run(published))
    try:
        yield published
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def heartbeat(url: str) -> HeartbeatSeen:
    async with probed([Probe("api", url, every=OFTEN, timeout=timedelta(milliseconds=300))]) as published:
        await eventually(lambda: published.events, saying="a heartbeat is seen")
        return published.payloads(HeartbeatSeen)[0]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_service_that_is_well_is_healthy_and_its_latency_measured() -> None:
    async with service(page("200 OK", "fine"), delay_s=0.05) as url:
        seen = await heartbeat(url)

    assert (seen.healthy, seen.answer, seen.detail) == (True, "ok", "")
    assert 50 <= seen.latency_ms < 300


async def test_a_failing_page_is_an_answer_with_its_beginning_as_detail() -> None:
    async with service(page("503 Unavailable", '{"reason": "store\n away", "token": "abc"}' + "x" * 5_000)) as url:
        seen = await heartbeat(url)

    assert (seen.healthy, seen.answer) == (False, "http_503")
    assert seen.detail.startswith('{"reason": "store away", "token": "[masked:secret]"}')
    assert len(seen.detail) < 220


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_service_that_is_gone_refuses(host: str) -> None:
    assert (await heartbeat(f"http://{host}:{closed_port()}/")).answer == "refused"


async def test_a_service_that_hangs_times_out() -> None:
    async with service(None) as url:
        seen = await heartbeat(url)

    assert (seen.answer, seen.healthy) == ("timeout", False)
    assert 300 <= seen.latency_ms < 800


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", page("302 Found")])
async def test_a_wrong_answer_is_unhealthy(answer: bytes) -> None:
    async with service(answer) as url:
        assert (await heartbeat(url)).answer in ("error", "http_302")


@pytest.mark.parametrize("url", ["http://[::bad/", "ftp://x/", "http://no-such-host.invalid/"])
async def test_an_address_that_leads_nowhere_is_an_error(url: str) -> None:
    assert (await heartbeat(url)).answer in ("error", "timeout")


async def test_a_slow_service_does_not_delay_the_others() -> None:
    async with service(None) as slow, service(page("200 OK")) as quick:
        probes = [Probe("slow", slow, every=OFTEN, timeout=timedelta(minutes=1)), Probe("quick", quick, every=OFTEN)]
        async with probed(probes) as published:
            await eventually(
                lambda: len([h for h in published.payloads(HeartbeatSeen) if h.service == "quick"]) >= 8, saying="eight"
            )

            assert not [h for h in published.payloads(HeartbeatSeen) if h.service == "slow"]


async def test_a_mesh_that_is_away_ends_the_source_so_that_it_is_started_again() -> None:
    published = Published()
    published.away = True
    async with service(page("200 OK")) as url:
        with pytest.raises(RetryableError):
            await ProbeSource([Probe("api", url, every=OFTEN, timeout=timedelta(milliseconds=300))]).run(published)


async def test_probing_three_services_twice_a_second_takes_little() -> None:
    async with (
        service(page("200 OK")) as url,
        probed([Probe(f"s{number}", url) for number in range(3)]) as published,
    ):
        await eventually(lambda: len(published.events) >= 3, saying="it has warmed up")
        cpu, began, before = os.times(), time.monotonic(), len(published.events)
        await eventually(lambda: len(published.events) >= before + 12, saying="twelve more")
        used_s = sum(os.times()[:2]) - sum(cpu[:2])

    # The servers' share and the machine's other load are in it; a thread or a process for each would be far above.
    assert used_s / (time.monotonic() - began) < 0.1
