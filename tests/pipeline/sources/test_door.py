"""The real door over real HTTP: what is accepted is durable, what is wrong is refused, nothing disturbs the others."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.sources.door import Door
from pipeline.sources.door_body import BODY_BYTES_MAX
from pipeline.sources.formats.mapping import JsonMapping
from tests.pipeline.sources.published import Published
from tests.pipeline.sources.test_formats import alert, cloud_event, own, webhook
from tests.polling import eventually
from topology.codec import decode, encode
from topology.errors import ConfigurationError
from topology.event import Event, Payload
from topology.payloads import AlertFired, ChangeApplied, LogWritten

CLOUD = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
JSON = {"content-type": "application/json"}

MAPPING = JsonMapping(name="site", event_type="log.written", fields={"service": "host", "message": "text"})


class OpenDoor:
    def __init__(self, door: Door, client: httpx.AsyncClient, published: Published) -> None:
        self.door, self.client, self.published = door, client, published

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.client.post(path, content=content, headers=headers or JSON)


@asynccontextmanager
async def opened(door: Door | None = None, published: Published | None = None) -> AsyncIterator[OpenDoor]:
    door, published = door or Door(mappings=[MAPPING]), published or Published()
    running = asyncio.create_task(door.run(published))
    try:
        async with httpx.AsyncClient(base_url=door.listen(), trust_env=False, timeout=30) as client:
            yield OpenDoor(door, client, published)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def door() -> AsyncIterator[OpenDoor]:
    async with opened() as door:
        yield door


async def test_alerts_posted_twice_are_one_event(door: OpenDoor) -> None:
    first = await door.post("/v1/alertmanager", webhook(alert()))
    second = await door.post("/v1/alertmanager", webhook(alert(), alert(fingerprint="other")))

    assert (first.status_code, first.json()) == (202, {"accepted": 1, "duplicates": 0})
    assert (second.status_code, second.json()) == (202, {"accepted": 1, "duplicates": 1})
    assert len(door.published.payloads(AlertFired)) == 2
    assert (door.door.accepted, door.door.duplicates) == (2, 1)


async def test_cloudevents_come_in_structured_in_a_batch_and_binary(door: OpenDoor) -> None:
    binary = JSON | {"ce-specversion": "1.0", "ce-id": "9", "ce-source": "/x", "ce-type": "com.aiops.change.applied"}

    assert (await door.post("/v1/events", cloud_event(), CLOUD)).json()["accepted"] == 1
    assert (await door.post("/v1/events", [cloud_event(id="a"), cloud_event(id="b")], BATCH)).json()["accepted"] == 2
    assert (await door.post("/v1/events", {"service": "ledger", "change": "v8"}, binary)).json()["accepted"] == 1
    assert [change.change for change in door.published.payloads(ChangeApplied)] == ["v7", "v7", "v7", "v8"]


async def test_our_own_events_come_in_alone_and_in_lists(door: OpenDoor) -> None:
    nameless = own()
    del nameless["id"]

    assert (await door.post("/v1/events", own())).json() == {"accepted": 1, "duplicates": 0}
    assert (await door.post("/v1/events", [own(), nameless])).json() == {"accepted": 1, "duplicates": 1}


async def test_any_json_comes_in_by_its_mapping(door: OpenDoor) -> None:
    answered = await door.post("/v1/json/site", {"host": "web", "text": "hello"})

    assert answered.json() == {"accepted": 1, "duplicates": 0}
    assert door.published.payloads(LogWritten) == [LogWritten(service="web", message="hello")]
    assert (await door.post("/v1/json/unknown", {})).status_code == 404


async def test_what_is_published_is_masked(door: OpenDoor) -> None:
    await door.post("/v1/events", own(payload={"service": "api", "message": "password=hunter2"}))

    assert door.published.payloads(LogWritten)[0].message == "password=[masked:secret]"


async def test_an_event_from_the_future_is_taken_as_one_of_now(door: OpenDoor) -> None:
    await door.post("/v1/events", own(timestamp="2999-01-01T00:00:00Z"))

    [event] = door.published.events
    assert event.timestamp.year < 2999
    assert event.metadata["claimed_timestamp"] == "2999-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason", "field"),
    [
        ("/v1/events", b"{", JSON, 400, "bad input", ""),
        ("/v1/events", b"", JSON, 400, "bad input", ""),
        ("/v1/events", b"[" * 100_000, JSON, 400, "bad input", ""),
        ("/v1/events", b'{"value": NaN}', JSON, 400, "bad input", ""),
        ("/v1/events", own(event_type="no.such"), JSON, 400, "bad input", "event_type"),
        ("/v1/events", own(event_type="action.started"), JSON, 400, "bad input", "event_type"),
        ("/v1/events", own(metadata={"schema_version": 9}), JSON, 400, "bad input", "metadata.schema_version"),
        ("/v1/events", [own(), own(payload={"service": 1})], JSON, 400, "bad input", "[1].payload"),
        ("/v1/events", json.dumps(own(payload={"value": 10**400})).encode(), JSON, 400, "bad input", ""),
        ("/v1/events", b'{"payload": ' + b"9" * 10_000 + b"}", JSON, 400, "bad input", ""),
        ("/v1/alertmanager", webhook(alert(), alert(startsAt=None)), JSON, 400, "bad input", "alerts[1].startsAt"),
        ("/v1/alertmanager", webhook(version="5"), JSON, 400, "bad input", "version"),
        ("/v1/alertmanager", [{}] * 10_001, JSON, 400, "bad input", ""),
        ("/v1/alertmanager", webhook(alerts=[{}] * 100_000), JSON, 422, "too many items", "alerts"),
        ("/v1/alertmanager", webhook(*[alert()] * 12_000), JSON, 422, "too many items", "alerts"),
        ("/v1/events", [{}] * 10_001, JSON, 422, "too many items", ""),
        ("/v1/events", b" " * (BODY_BYTES_MAX + 1), JSON, 413, "too large", ""),
        ("/v1/alertmanager", b"x" * 10_000_000, JSON, 413, "too large", ""),
        ("/v1/events", b"x=1", {"content-type": "text/plain"}, 415, "wrong media type", "Content-Type"),
        ("/v1/alertmanager", b"{}", CLOUD, 415, "wrong media type", "Content-Type"),
        ("/v1/events", b"{}", JSON | {"content-encoding": "gzip"}, 415, "wrong media type", "Content-Encoding"),
        ("/v1/nowhere", b"x" * 1_000_000, JSON, 404, "not found", ""),
        ("/health", b"{}", JSON, 405, "wrong method", ""),
    ],
)
async def test_what_is_wrong_is_refused_and_counted(
    door: OpenDoor, path: str, body: Any, headers: dict[str, str], status: int, reason: str, field: str
) -> None:
    refused = await door.post(path, body, headers)

    assert (refused.status_code, door.door.refused) == (status, {reason: 1})
    assert refused.json().keys() == {"error", "field", "expected"}
    assert refused.json()["field"] == field
    assert refused.json()["error"]
    assert not door.published.events
    assert (await door.client.get("/health")).status_code == 200


async def test_a_body_without_an_announced_length_is_stopped_at_the_limit(door: OpenDoor) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1_000_000

    refused = await door.client.post("/v1/events", content=chunks(), headers=JSON)

    assert refused.status_code == 413


async def test_a_hundred_thousand_alerts_are_refused_quickly_and_disturb_nobody(door: OpenDoor) -> None:
    small = orjson.dumps(webhook(alerts=[{"labels": {}, "annotations": {}}] * 100_000))
    large = orjson.dumps(webhook(alerts=[alert()] * 100_000))

    async def slowest_health_s() -> float:
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert (await door.client.get("/health")).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    began = time.monotonic()
    first, second, slowest = await asyncio.gather(
        door.post("/v1/alertmanager", small), door.post("/v1/alertmanager", large), slowest_health_s()
    )

    assert (first.status_code, second.status_code) == (422, 413)
    assert time.monotonic() - began < 5
    assert slowest < 1


async def test_the_largest_body_within_the_limits_is_taken_whole(door: OpenDoor) -> None:
    answered = await door.post("/v1/alertmanager", webhook(*(alert(fingerprint=f"{n}") for n in range(10_000))))

    assert answered.json() == {"accepted": 10_000, "duplicates": 0}


async def test_while_the_mesh_is_away_the_sender_is_told_to_come_again(door: OpenDoor) -> None:
    door.published.away = True
    refused = await door.post("/v1/alertmanager", webhook(alert()))
    door.published.away = False

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await door.post("/v1/alertmanager", webhook(alert()))).json() == {"accepted": 1, "duplicates": 0}


async def test_the_answer_waits_until_the_events_are_durable() -> None:
    durable = asyncio.Event()

    class Slow(Published):
        async def __call__(self, events: Sequence[Event[Payload]]) -> int:
            await durable.wait()
            return await super().__call__(events)

    async with opened(published=Slow()) as door:
        asked = asyncio.create_task(door.post("/v1/alertmanager", webhook(alert())))
        done, _ = await asyncio.wait([asked], timeout=0.3)
        assert not done
        durable.set()
        assert (await asked).status_code == 202


async def test_with_a_token_only_those_who_have_it_get_in() -> None:
    async with opened(Door(token="s3cret")) as door:
        for wrong in (
            {},
            {"authorization": "Bearer s3cre"},
            {"authorization": "s3cret"},
            {"authorization": "Bearer é"},
        ):
            headers = [(name.encode(), value.encode()) for name, value in (JSON | wrong).items()]
            refused = await door.client.post("/v1/alertmanager", content=b"{}", headers=headers)
            assert refused.status_code == 401
        right = await door.post("/v1/alertmanager", webhook(alert()), JSON | {"authorization": "Bearer s3cret"})
        assert right.status_code == 202
        assert (await door.client.get("/health")).status_code == 200
        assert door.door.refused == {"no token": 4}


async def test_a_sender_that_leaves_in_the_middle_does_no_harm(door: OpenDoor) -> None:
    port = int(door.door.url.rsplit(":", 1)[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    await writer.drain()
    writer.transport.abort()

    await eventually(
        lambda: door.door.refused == {"sender left": 1}, saying="it is counted", seen=lambda: door.door.refused
    )
    assert (await door.post("/v1/events", own())).status_code == 202


async def test_stopping_finishes_the_request_at_hand_and_frees_the_port() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Published):
        async def __call__(self, events: Sequence[Event[Payload]]) -> int:
            arrived.set()
            await go_on.wait()
            return await super().__call__(events)

    door = Door()
    url = door.listen()
    running = asyncio.create_task(door.run(Slow()))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        asked = asyncio.create_task(
            client.post("/v1/alertmanager", content=orjson.dumps(webhook(alert())), headers=JSON)
        )
        await arrived.wait()
        running.cancel()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert (await asked).status_code == 202
    with suppress(asyncio.CancelledError):
        await running

    again = Door(port=int(url.rsplit(":", 1)[1]))
    assert again.listen() == url
    async with opened(again) as reopened:
        assert (await reopened.client.get("/health")).status_code == 200


async def test_a_port_that_is_taken_is_a_matter_of_configuration() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="cannot listen at"):
        Door(port=taken.getsockname()[1]).listen()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
nearly_right = st.builds(
    lambda base, field, value: {**base, field: value},
    st.sampled_from([own(), cloud_event(), webhook(alert()), {"host": "a", "text": "b"}]),
    st.sampled_from(["id", "timestamp", "payload", "metadata", "data", "labels", "alerts", "status", "event_type", "type",
                     "time", "subject", "source", "schemaversion", "data_base64", "host", "version", "extra"]),
    json_values,
)  # fmt: skip
nearly_an_alert = st.builds(
    lambda field, value: webhook(alert(**{field: value})),
    st.sampled_from(["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"]),
    json_values,
)
nearly_a_payload = st.builds(
    lambda field, value: own(payload={"service": "a", "message": "m", field: value}),
    st.sampled_from(["service", "message", "level", "labels", "logger", "x"]),
    json_values,
)
bodies = st.binary(max_size=200) | (json_values | nearly_right | nearly_an_alert | nearly_a_payload).map(
    lambda value: json.dumps(value).encode()
)
headers = st.sampled_from([JSON, CLOUD, BATCH, {"content-type": "text/html"}]) | st.dictionaries(
    st.sampled_from(["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-schemaversion"]),
    st.sampled_from(["1.0", "log.written", "change.applied", "%ff", "x", "1", "2026-01-01T00:00:00Z", ""]),
).map(lambda attributes: JSON | attributes)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["/v1/events", "/v1/alertmanager", "/v1/json/site"]), bodies, headers), min_size=1
    )
)
async def test_nothing_that_is_posted_makes_the_door_fail(posts: list[tuple[str, bytes, dict[str, str]]]) -> None:
    published = Published()
    transport = httpx.ASGITransport(Door(mappings=[MAPPING]).application(published), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        for path, body, head in posts:
            before = len(published.events)
            answered = await client.post(path, content=body, headers=head)
            assert answered.status_code == 202 or 400 <= answered.status_code < 500, (path, body, head, answered.text)
            if answered.status_code != 202:
                assert len(published.events) == before
            for event in published.events[before:]:
                assert decode(encode(event)).payload == event.payload
