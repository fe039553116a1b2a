"""Executors that speak to a process supervisor over its HTTP control API.

The API is the one of :mod:`pipeline.patient.control`: units with verbs, versioned configurations, idempotency keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from agents.ports import ExecutionReport
from topology.errors import RetryableError
from topology.payloads.healing import ActionRequest

_TIMEOUT_S = 10.0


class SupervisorClient:
    """One supervisor; shared by the executors that use it."""

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S, trust_env=False
        )

    async def post(self, path: str, body: Mapping[str, Any] | None, idempotency_key: str) -> httpx.Response:
        """POST under a key; the same key gives the same answer and is done once.

        Raises:
            RetryableError: the supervisor could not be reached.
        """
        try:
            return await self._client.post(path, json=body or {}, headers={"Idempotency-Key": idempotency_key})
        except httpx.TransportError as error:
            msg = f"the supervisor did not answer {path}: {error!r}"
            raise RetryableError(msg) from error

    async def close(self) -> None:
        """Close the connections; may be called more than once."""
        await self._client.aclose()


class ProcessExecutor:
    """Starts, stops, restarts and kills units of a supervisor."""

    name = "process"
    operations = frozenset({"start", "stop", "restart", "kill"})

    def __init__(self, supervisor: SupervisorClient) -> None:
        self._supervisor = supervisor

    async def execute(self, request: ActionRequest, idempotency_key: str) -> ExecutionReport:
        response = await self._supervisor.post(
            f"/units/{quote(request.target, safe='')}/{request.operation}", None, idempotency_key
        )
        opposite = {"stop": "start", "start": "stop"}.get(request.operation)
        undo = request.model_copy(update={"operation": opposite}) if opposite else None
        return _report(response, f"{request.operation} {request.target}", undo)

    async def preview(self, request: ActionRequest) -> str:
        return f"{request.operation} the unit {request.target}"

    async def close(self) -> None:
        await self._supervisor.close()


class ConfigurationExecutor:
    """Deploys versions of a unit's configuration: ``rollback`` to the one before, or ``set`` one by number."""

    name = "configuration"
    operations = frozenset({"rollback", "set"})

    def __init__(self, supervisor: SupervisorClient) -> None:
        self._supervisor = supervisor

    async def execute(self, request: ActionRequest, idempotency_key: str) -> ExecutionReport:
        path = f"/configuration/{quote(request.target, safe='')}"
        if request.operation == "rollback":
            response = await self._supervisor.post(f"{path}/rollback", None, idempotency_key)
        else:
            response = await self._supervisor.post(
                path, {"version": request.parameters.get("version")}, idempotency_key
            )
        undo = None
        if response.is_success:
            before = response.json()["undo"]
            undo = request.model_copy(update={"operation": "set", "parameters": {"version": before["version"]}})
        return _report(response, f"{request.operation} the configuration of {request.target}", undo)

    async def preview(self, request: ActionRequest) -> str:
        version = "the version before" if request.operation == "rollback" else request.parameters.get("version")
        return f"deploy {version} of the configuration of {request.target}"

    async def close(self) -> None:
        await self._supervisor.close()


def _report(response: httpx.Response, did: str, undo: ActionRequest | None) -> ExecutionReport:
    if response.is_success:
        return ExecutionReport(status="succeeded", detail=f"{did}: done", undo=undo)
    return ExecutionReport(
        status="failed" if response.is_server_error else "refused",
        detail=f"{did}: {response.status_code} {response.text[:300]}",
    )
