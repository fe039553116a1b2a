"""Asks services for their health over HTTP, and says what they answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx

from pipeline.security.masking import mask_event
from pipeline.sources.identity import new_id
from pipeline.sources.source import Publish
from topology.event import Event, Payload
from topology.payloads.signals import HeartbeatSeen

_DETAIL_CHARS_MAX = 200
_BODY_BYTES_MAX = 2_000
_UNPUBLISHED_MAX = 1_000
"""Answers that may wait for ``publish``; then probing waits too, for nobody would hear of more."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Whom to ask, and how often.

    Attributes:
        service: whose health it is.
        url: the health page; a status from 200 to 299 is healthy, a redirection is not followed and is not.
        every: from the beginning of one request to the beginning of the next; a request that takes longer skips turns.
        timeout: for the whole of a request: connecting, sending, the first bytes of the answer.
        labels: put on every heartbeat.
    """

    service: str
    url: str
    every: timedelta = timedelta(milliseconds=500)
    timeout: timedelta = timedelta(seconds=1)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request; ``answer`` as in :class:`HeartbeatSeen`."""

    answer: str
    detail: str = ""


class ProbeSource:
    """Probes any number of services at once; a slow one delays no other.

    A heartbeat's time is when the answer, or its absence, was known.
    """

    def __init__(self, probes: Iterable[Probe], *, name: str = "probes") -> None:
        self._probes = tuple(probes)
        self._name = name

    async def run(self, publish: Publish) -> None:
        """Probe until cancelled; see :class:`pipeline.sources.source.Source`."""
        seen: asyncio.Queue[Event[Payload]] = asyncio.Queue(_UNPUBLISHED_MAX)
        # A probe on a connection made earlier would say nothing about whether new clients get in, so none is kept. Proxies
        # of the environment are for the internet, not for the services next door.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:  # noqa: S113 the whole request has one
            try:
                async with asyncio.TaskGroup() as tasks:
                    for number, probe in enumerate(self._probes):
                        delay_s = probe.every.total_seconds() * number / len(self._probes)
                        tasks.create_task(self._probe(client, probe, seen, delay_s=delay_s))
                    await _publish_from(seen, publish)
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures

    async def _probe(
        self, client: httpx.AsyncClient, probe: Probe, seen: asyncio.Queue[Event[Payload]], *, delay_s: float
    ) -> None:
        every_s = probe.every.total_seconds()
        next_at = time.monotonic() + delay_s
        while True:
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            began = time.monotonic()
            found = await ask(client, probe.url, timeout_s=probe.timeout.total_seconds())
            ended = time.monotonic()
            await seen.put(self._heartbeat(probe, found, latency_ms=(ended - began) * 1000))
            turns_missed = max(0, int((ended - next_at) / every_s))
            next_at += (1 + turns_missed) * every_s

    def _heartbeat(self, probe: Probe, found: Answer, *, latency_ms: float) -> Event[Payload]:
        return mask_event(
            Event(
                id=new_id(),
                timestamp=datetime.now(UTC),
                source=self._name,
                payload=HeartbeatSeen(
                    service=probe.service,
                    labels=probe.labels,
                    healthy=found.answer == "ok",
                    answer=found.answer,
                    latency_ms=round(latency_ms, 3),
                    detail=found.detail,
                ),
            )
        )


async def ask(client: httpx.AsyncClient, url: str, *, timeout_s: float) -> Answer:
    """Ask one health page once.  Whatever goes wrong is an answer, never an exception."""
    try:
        async with asyncio.timeout(timeout_s), client.stream("GET", url, headers={"connection": "close"}) as response:
            if response.is_success:
                return Answer("ok")
            return Answer(f"http_{response.status_code}", await _beginning(response))
    except TimeoutError:
        return Answer("timeout", f"no answer within {timeout_s:g} s")
    except httpx.ConnectError as error:
        return Answer("refused" if _was_refused(error) else "error", _short(str(error)))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Answer("error", _short(f"{type(error).__name__}: {error}"))


async def _publish_from(seen: asyncio.Queue[Event[Payload]], publish: Publish) -> None:
    while True:
        events = [await seen.get()]
        while not seen.empty():
            events.append(seen.get_nowait())
        await publish(events)


async def _beginning(response: httpx.Response) -> str:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= _BODY_BYTES_MAX:
            break
    return _short(body[:_BODY_BYTES_MAX].decode(errors="replace"))


def _was_refused(error: BaseException) -> bool:
    """Whether a refusal is at the root; a name with several addresses fails with a group, one error for each."""
    if isinstance(error, ConnectionRefusedError):
        return True
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__ or error.__context__,)
    return any(_was_refused(cause) for cause in causes if cause is not None)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _DETAIL_CHARS_MAX else words[: _DETAIL_CHARS_MAX - 1] + "…"
