"""Hands over an action to another system by a signed HTTP call."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from hashlib import sha256
from urllib.parse import urlsplit

import httpx
import orjson

from agents.ports import ExecutionReport
from topology.errors import RetryableError
from topology.payloads.healing import ActionRequest

_TIMEOUT_S = 10.0


class WebhookExecutor:
    """POSTs the request as JSON to the URL in its ``parameters``.

    Only hosts on the allow-list are called, redirects are not followed, and the body is signed (HMAC-SHA256 of the raw
    body in ``X-Aiops-Signature: sha256=...``), so that a topology cannot be made to call somewhere else and the
    receiver can tell who asks.  The idempotency key travels as a header; doing it once is the receiver's part.
    """

    name = "webhook"
    operations = frozenset({"post"})

    def __init__(self, *, allowed_hosts: Collection[str], secret: str) -> None:
        self._allowed_hosts = frozenset(allowed_hosts)
        self._secret = secret.encode()
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False)

    async def execute(self, request: ActionRequest, idempotency_key: str) -> ExecutionReport:
        url = str(request.parameters.get("url", ""))
        refusal = self._refusal(url)
        if refusal:
            return ExecutionReport(status="refused", detail=refusal)
        body = orjson.dumps({"idempotency_key": idempotency_key, "request": request.model_dump(mode="json")})
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
            "X-Aiops-Signature": f"sha256={hmac.new(self._secret, body, sha256).hexdigest()}",
        }
        try:
            response = await self._client.post(url, content=body, headers=headers)
        except httpx.TransportError as error:
            msg = f"the webhook {url} did not answer: {error!r}"
            raise RetryableError(msg) from error
        if response.is_server_error:
            msg = f"the webhook {url} answered {response.status_code}"
            raise RetryableError(msg)
        return ExecutionReport(
            status="succeeded" if response.is_success else "refused",
            detail=f"{url}: {response.status_code} {response.text[:300]}",
        )

    async def preview(self, request: ActionRequest) -> str:
        return f"POST the request to {request.parameters.get('url')}"

    async def close(self) -> None:
        await self._client.aclose()

    def _refusal(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            return f"found url {url!r}, expected http:// or https://"
        if parts.hostname not in self._allowed_hosts:
            allowed = ", ".join(sorted(self._allowed_hosts)) or "none"
            return f"found host {parts.hostname!r}, expected one of AIOPS_WEBHOOK_HOSTS ({allowed})"
        return ""
