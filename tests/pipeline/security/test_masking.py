"""Nothing secret passes, nothing else is touched, and doing it twice changes nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.security.masking import mask_event, mask_text
from topology.event import Event
from topology.payloads import AlertFired, LogWritten, MetricSampled

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"
# Assembled here, so that scanners for leaked keys have nothing to find in this file.
AWS_KEY = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB_TOKEN = "ghp_" + "a1B2" * 9
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nq83vEjRW\n-----END RSA " + "PRIVATE KEY-----"

SECRET = "hunter2!x"
LEAKS = [
    (f"login failed password={SECRET} user=bob", SECRET),
    (f"DB_PASSWORD: {SECRET}", SECRET),
    (f'{{"password": "{SECRET} with space", "a": 1}}', SECRET),
    (f"{{'passwd': '{SECRET}'}}", SECRET),
    (f'msg="{{\\"secret\\": \\"{SECRET}\\"}}"', SECRET),
    (f"GET /login?api_key={SECRET}&page=2", SECRET),
    (f"Authorization: Bearer {SECRET}abc", SECRET),
    (f"authorization: Basic {SECRET}", SECRET),
    (f"Set-Cookie: session={SECRET}; Path=/", SECRET),
    ("curl -H 'X: Bearer abcdefgh12345678'", "abcdefgh12345678"),
    (f"postgres://app:{SECRET}@db.internal:5432/app", SECRET),
    (f"aws_secret_access_key = {SECRET}", SECRET),
    (f'password="{SECRET} never closed', SECRET),
    (f"refused {JWT} as expired", JWT),
    (f"key {AWS_KEY} used", AWS_KEY),
    (f"pushed with {GITHUB_TOKEN}", GITHUB_TOKEN),
    (PEM, "MIIEpAIBAAKCAQEA"),
    (PEM[:60], "MIIEpAIBAAKC"),
    ("paid with 4111 1111 1111 1111 today", "4111 1111"),
    ("card=5555-5555-5555-4444", "5555-4444"),
    ("amex 378282246310005", "378282246310005"),
    ("mail to jane.doe+x@mail.example.org bounced", "jane.doe"),
]

CLEAN = [
    "2026-11-22T14:02:07.123Z INFO ledger booked transfer=42 amount=17.50 ms=12",
    "user logged in, token count 5, max_tokens=4096",
    "trace 1700000000000000000 span 4111111111111112",
    "getty@tty1.service started",
    "10.80.40.11 reported high memory usage with 23.28%.",
    "GET /v1/items?page=2 200 13ms",
    "password was changed",
    "a@b is not an address, nor is @decorator",
    "",
]

words = st.sampled_from(
    ["password", "token", "=", ":", " ", '"', "'", "\\", "secret", "bearer ", "Bearer", "a@b.cc", "://", "@", "eyJ", "x" * 9,
     "[masked:secret]", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "4111111111111111", ".", ",", "&", "\n",
     "cookie", "4111 1111 1111 1111", "-", "basic ", AWS_KEY, JWT, "ghp_", "\x00"]
)  # fmt: skip


@pytest.mark.parametrize(("text", "secret"), LEAKS)
def test_a_secret_is_masked(text: str, secret: str) -> None:
    masked = mask_text(text)

    assert secret not in masked
    assert "[masked:" in masked


@pytest.mark.parametrize("text", CLEAN)
def test_clean_text_is_left_as_it_is(text: str) -> None:
    assert mask_text(text) is text


@pytest.mark.parametrize(("text", "secret"), LEAKS)
def test_what_stands_around_a_secret_stays(text: str, secret: str) -> None:
    del secret
    if text.startswith("login failed"):
        assert mask_text(text) == "login failed password=[masked:secret] user=bob"
    if text.startswith("postgres"):
        assert mask_text(text) == "postgres://app:[masked:secret]@db.internal:5432/app"
    assert mask_text(f"before {text} ").startswith("before ")


@given(st.lists(words | st.text(max_size=5)).map("".join))
@example("".join(text for text, _ in LEAKS))
def test_masking_twice_is_masking_once(text: str) -> None:
    once = mask_text(text)

    assert mask_text(once) == once


@given(st.text(), st.sampled_from(["password=", "token: ", '"secret": "', "Authorization: Bearer "]), st.text())
def test_a_value_after_its_name_never_passes(before: str, name: str, after: str) -> None:
    assert "n0t-for-y0u" not in mask_text(f"{before} {name}n0t-for-y0u {after}")


@pytest.mark.parametrize(
    "text",
    ["token" * 13_000, 'token="\'' * 9_000, "a" * 64_000 + "@", "eyJ" * 21_000, "4" * 64_000, "1 " * 32_000,
     "-----BEGIN PRIVATE KEY-----" * 2_400, "://" + "a:" * 32_000 + "@", "bearer " * 9_000, "a.b@" * 16_000, "pwd: " * 13_000,
     "pwd" + " " * 64_000, "sk-" * 21_000, "password='\"" * 6_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    began = time.process_time()

    mask_text(text)

    assert time.process_time() - began < 1.0


class TestEvents:
    def event(self, payload: Any) -> Event[Any]:
        return Event(id=UUID(int=1), timestamp=datetime(2026, 1, 1, tzinfo=UTC), source="test", payload=payload)

    def test_texts_labels_and_annotations_are_masked_and_what_identifies_is_not(self) -> None:
        alert = AlertFired(
            service="a@b.example.org",
            alert="Mail",
            fingerprint="4111111111111111",
            description="password=x",
            labels={"owner": "jane@example.org", "api_key": "0815", "zone": "eu"},
            annotations={"note": "secret: x"},
        )

        masked = mask_event(self.event(alert)).payload

        assert masked == AlertFired(
            service="a@b.example.org",
            alert="Mail",
            fingerprint="4111111111111111",
            description="password=[masked:secret]",
            labels={"owner": "[masked:email]", "api_key": "[masked:secret]", "zone": "eu"},
            annotations={"note": "secret: [masked:secret]"},
        )

    def test_an_event_without_secrets_is_the_same_object(self) -> None:
        for payload in (
            MetricSampled(service="a", metric="m", value=1.0, labels={"zone": "eu"}),
            LogWritten(service="a", message="all is well"),
        ):
            event = self.event(payload)
            assert mask_event(event) is event

    def test_characters_that_no_store_takes_are_replaced(self) -> None:
        assert mask_event(self.event(LogWritten(service="a", message="a\x00b"))).payload.message == "a\ufffdb"

    def test_metadata_is_masked_too(self) -> None:
        event = self.event(LogWritten(service="a", message="m"))
        noted = Event(
            id=event.id, timestamp=event.timestamp, source="s", payload=event.payload, metadata={"a": [{"token": "x"}]}
        )

        assert mask_event(noted).metadata == {"a": [{"token": "[masked:secret]"}]}
